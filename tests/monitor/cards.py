"""A machine with a GPU, as far as reading its memory goes, on a machine without one."""

from __future__ import annotations

import types

import pytest
import torch

from tessera.monitor import MemoryProbe

MIB = 2**20
STATS = {
    "allocated_bytes.all.current": 100 * MIB,
    "allocated_bytes.all.peak": 400 * MIB,
    "reserved_bytes.all.current": 500 * MIB,
    "inactive_split_bytes.all.current": 50 * MIB,
    "segment.all.current": 7,
    "num_alloc_retries": 1,
    "num_ooms": 0,
}


class NVML(types.ModuleType):
    """NVML on a card of 1000 MiB, which fails from the given call on."""

    class NVMLError(Exception): ...

    def __init__(self, fails_at: int = 1000) -> None:
        super().__init__("pynvml")
        self.fails_at, self.calls, self.is_open = fails_at, 0, False

    def _call(self) -> None:
        self.calls += 1
        if self.calls >= self.fails_at:
            raise self.NVMLError("Driver/library version mismatch")

    def nvmlInit(self) -> None:
        self._call()
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self._call()
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> types.SimpleNamespace:
        assert handle == "GPU-1234"
        self._call()
        return types.SimpleNamespace(used=870 * MIB, total=1000 * MIB)


def pretend_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's answers on a machine with a GPU that is three quarters full."""
    properties = types.SimpleNamespace(uuid="1234")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: STATS)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: [])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (250 * MIB, 1000 * MIB))


class OnCard(MemoryProbe):
    """Reads that card, whatever the run's device is."""

    def __init__(self, device: torch.device) -> None:
        super().__init__("cuda:0")
