"""Packages that are installed and cannot be imported: nothing runs on them, and it is said why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tessera.accelerator import _broken_triton, _capability, triton_obstacle
from tessera.model import DualScan, SelectiveScan
from tessera.model.scans import dual, selective

FINDERS = (_broken_triton, _capability, selective._find_mamba_ssm, dual._find_dual_kernel)


@pytest.fixture(autouse=True)
def _broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton and mamba_ssm, built for a library that is not there; what was found is forgotten."""
    for module in ("triton", "mamba_ssm"):
        (tmp_path / f"{module}.py").write_text("raise OSError('libnone.so: no such file')")
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for find in FINDERS:
        find.cache_clear()
    yield
    for find in FINDERS:
        find.cache_clear()


@pytest.mark.parametrize(("device", "interpreted"), [("cpu", "1"), ("cuda:0", "0")])
def test_a_broken_triton_is_what_the_kernels_need(
    monkeypatch: pytest.MonkeyPatch, device: str, interpreted: str
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    needed = "a package triton that can be imported (libnone.so: no such file)"
    assert triton_obstacle(torch.device(device)) == needed


@pytest.mark.parametrize("require", [SelectiveScan, DualScan])
def test_a_broken_mamba_ssm_is_refused_with_the_reason(require: Callable[[], object]) -> None:
    reason = r"mamba_ssm cannot be imported \(libnone.so: no such file\)"
    with pytest.raises(ValueError, match=reason):
        require("mamba_ssm")
