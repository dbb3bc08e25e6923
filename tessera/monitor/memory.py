"""GPU memory: the whole card from the driver, this process from torch's allocator."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch

_MIB = 2**20


class MemoryProbe:
    """Reads the metrics of the categories memory and fragmentation; never waits for the GPU.

    The ratio of reserved to allocated memory is only meaningful at the moment when most is
    allocated: between two steps nearly all of the memory is free on purpose. So the allocator's
    peak since the last ``read`` is what it is compared with, and each ``read`` (and making the
    probe) starts a new peak with ``torch.cuda.reset_peak_memory_stats``.

    Args:
        device: whose memory; anything but a CUDA device has none to read.

    Attributes:
        metrics: the names of what is read.
        why_absent: for every metric that cannot be read, why.
        problem: what failed on a machine where it should not have, and what is read instead.
    """

    metrics = (
        "vram_used_mb",
        "vram_used_ratio",
        "vram_allocated_mb",
        "vram_reserved_mb",
        "fragmentation_ratio",
        "num_segments",
        "inactive_split_ratio",
        "alloc_retries",
        "ooms",
    )

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        self.why_absent: dict[str, str] = {}
        self.problem: str | None = None
        self._card: Any = None
        if self.device.type != "cuda":
            why = f"{self.device.type} has no GPU memory"
            self.why_absent = dict.fromkeys(self.metrics, why)
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        self._open_card()

    def read(self) -> dict[str, float]:
        """What could be measured now, by name."""
        if self.device.type != "cuda":
            return {}
        values = self._read_card() | allocator_metrics(torch.cuda.memory_stats(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)
        return values

    def close(self) -> None:
        """Let go of NVML; doing it twice is harmless."""
        if self._card is not None:
            self._card = None
            nvml = _nvml()
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _open_card(self) -> None:
        try:
            nvml = _nvml()
        except ImportError as error:
            self._without_nvml(error)
            return
        try:
            nvml.nvmlInit()
            self._card = _handle(nvml, self.device)
        except nvml.NVMLError as error:
            self._without_nvml(error)

    def _read_card(self) -> dict[str, float]:
        if self._card is not None:
            nvml = _nvml()
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(self._card)
            except nvml.NVMLError as error:
                self.close()
                self._without_nvml(error)
            else:
                return _card_metrics(memory.used, memory.total)
        free, total = torch.cuda.mem_get_info(self.device)
        return _card_metrics(total - free, total)

    def _without_nvml(self, error: Exception) -> None:
        """On a MIG slice or in some containers NVML says nothing; the CUDA runtime always does."""
        self.problem = (
            f"NVML cannot be read ({error}); vram_used_mb comes from the CUDA runtime instead, "
            "which knows this process's part of the card only"
        )


def allocator_metrics(stats: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that follow from ``torch.cuda.memory_stats``; what it does not say is absent."""
    values = {
        "vram_allocated_mb": _scaled(stats.get("allocated_bytes.all.current")),
        "vram_reserved_mb": _scaled(stats.get("reserved_bytes.all.current")),
        "fragmentation_ratio": _ratio(stats, "reserved_bytes.all.current", _PEAK),
        "num_segments": stats.get("segment.all.current"),
        "inactive_split_ratio": _ratio(
            stats, "inactive_split_bytes.all.current", "reserved_bytes.all.current"
        ),
        "alloc_retries": stats.get("num_alloc_retries"),
        "ooms": stats.get("num_ooms"),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


_PEAK = "allocated_bytes.all.peak"


def _scaled(num_bytes: int | None) -> float | None:
    return None if num_bytes is None else num_bytes / _MIB


def _ratio(stats: Mapping[str, Any], above: str, below: str) -> float | None:
    """A quotient of two counters; None if one is missing or there is nothing to divide by."""
    if above not in stats or not stats.get(below):
        return None
    return stats[above] / stats[below]


def _card_metrics(used: int, total: int) -> dict[str, float]:
    return {"vram_used_mb": used / _MIB, "vram_used_ratio": used / total}


def _nvml() -> Any:
    """The module ``pynvml`` of the distribution nvidia-ml-py."""
    import pynvml

    return pynvml


def _handle(nvml: Any, device: torch.device) -> Any:
    """NVML's handle of torch's device, whatever CUDA_VISIBLE_DEVICES hides or reorders."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
