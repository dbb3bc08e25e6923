"""GPU memory: the whole card from the driver, this process from torch's allocator."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

_MIB = 2**20
_NO_GRAPH = (0, 0)  # the pool of what is not captured

# What follows from ``torch.cuda.memory_stats``: a counter, and what it is divided by.
_COUNTERS: dict[str, tuple[str, str | int]] = {
    "vram_allocated_mb": ("allocated_bytes.all.current", _MIB),
    "vram_reserved_mb": ("reserved_bytes.all.current", _MIB),
    "fragmentation_ratio": ("reserved_bytes.all.current", "allocated_bytes.all.peak"),
    "num_segments": ("segment.all.current", 1),
    "inactive_split_ratio": ("inactive_split_bytes.all.current", "reserved_bytes.all.current"),
    "alloc_retries": ("num_alloc_retries", 1),
    "ooms": ("num_ooms", 1),
}


class MemoryProbe:
    """Reads the metrics of the categories memory and fragmentation; never waits for the GPU.

    The ratio of reserved to allocated memory is only meaningful at the moment when most is
    allocated: between two steps nearly all of the memory is free on purpose. So the allocator's
    peak since the last ``read`` is what it is compared with, and each ``read`` (and making the
    probe) starts a new peak with ``torch.cuda.reset_peak_memory_stats``. What a CUDA graph writes
    between its first kernel and its last is free to the allocator and never idle: the memory of
    graphs that is not allocated is left out.

    Args:
        device: whose memory; anything but a CUDA device has none to read.

    Attributes:
        metrics: the names of what is read.
        why_absent: for every metric that cannot be read, why.
        problem: what failed on a machine where it should not have, and what is read instead.
    """

    metrics = ("vram_used_mb", "vram_used_ratio", *_COUNTERS)

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        self.why_absent: dict[str, str] = {}
        self.problem: str | None = None
        self._card: Any = None  # NVML's handle
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._read_card()  # NVML takes a while to start, which is no part of a step
        else:
            why = f"{self.device.type} has no GPU memory"
            self.why_absent = dict.fromkeys(self.metrics, why)

    def read(self) -> dict[str, float]:
        """What could be measured now, by name."""
        if self.device.type != "cuda":
            return {}
        used, total = self._read_card()
        values = {"vram_used_mb": used / _MIB, "vram_used_ratio": used / total}
        stats, segments = torch.cuda.memory_stats(self.device), torch.cuda.memory_snapshot()
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        values |= allocator_metrics(stats, bytes_of_graphs(segments, index))
        torch.cuda.reset_peak_memory_stats(self.device)
        return values

    def close(self) -> None:
        """Let go of NVML; doing it twice is harmless."""
        if self._card is not None:
            import pynvml

            self._card = None
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _read_card(self) -> tuple[int, int]:
        """Bytes in use on the card, and all that it has."""
        if self.problem is None:
            try:
                import pynvml  # of the distribution nvidia-ml-py

                if self._card is None:
                    pynvml.nvmlInit()
                    # Known by its UUID, whatever CUDA_VISIBLE_DEVICES hides or reorders.
                    uuid = str(torch.cuda.get_device_properties(self.device).uuid)
                    uuid = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
                    self._card = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                memory = pynvml.nvmlDeviceGetMemoryInfo(self._card)
                return memory.used, memory.total
            except Exception as error:  # NVML's, or there is no such module
                self.close()
                # On a MIG slice or in some containers NVML says nothing; CUDA always does.
                self.problem = (
                    f"NVML cannot be read ({error}); vram_used_mb comes from the CUDA runtime "
                    "instead, which knows this process's part of the card only"
                )
        free, total = torch.cuda.mem_get_info(self.device)
        return total - free, total


def allocator_metrics(stats: Mapping[str, Any], of_graphs: int = 0) -> dict[str, float]:
    """The metrics that follow from ``torch.cuda.memory_stats``; what it does not say is absent.

    Args:
        stats: as torch gives them.
        of_graphs: bytes that are reserved for CUDA graphs and not allocated.
    """
    values: dict[str, float] = {}
    for name, (above, below) in _COUNTERS.items():
        divisor = stats.get(below) if isinstance(below, str) else below
        if above in stats and divisor:
            left_out = of_graphs if name == "fragmentation_ratio" else 0
            values[name] = (stats[above] - left_out) / divisor
    return values


def bytes_of_graphs(segments: Sequence[Mapping[str, Any]], index: int) -> int:
    """Bytes of a device that are reserved for CUDA graphs and not allocated.

    Args:
        segments: as ``torch.cuda.memory_snapshot`` gives them.
        index: of the device.
    """
    return sum(
        segment["total_size"] - segment["allocated_size"]
        for segment in segments
        if segment["device"] == index and tuple(segment["segment_pool_id"]) != _NO_GRAPH
    )
