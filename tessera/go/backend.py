"""Where games are played, and by which code: plain torch, or the Triton kernels beside it."""

from __future__ import annotations

import torch

from tessera.accelerator import triton_obstacle
from tessera.setting_errors import Problem, SettingError, one_of

BACKENDS = ("auto", "torch", "triton")


def check_device(device: str | torch.device) -> torch.device:
    """The device; ValueError if that is no device's name, or torch finds no such CUDA device."""
    try:
        result = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be cpu, cuda or cuda:0, got {device}.") from error
    if result.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be cpu where torch finds no CUDA device, got {device}.")
    if result.type == "cuda" and (result.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"device must be cuda:0 to cuda:{last}, got {device}.")
    return result


def resolve_backend(backend: str, device: torch.device) -> str:
    """Which of "torch" and "triton"; "auto" takes Triton on every CUDA device that it supports.

    Raises:
        SettingError: if there is no such backend, or Triton cannot run on this device. Its
            interpreter, which its own switch TRITON_INTERPRET=1 turns on, runs on the CPU.
    """
    one_of(*BACKENDS)("backend", backend)
    obstacle = "" if backend == "torch" else triton_obstacle(device)
    if backend == "auto":
        return "torch" if obstacle or device.type != "cuda" else "triton"
    if obstacle:
        form = "{name} {value} needs {must}; use auto or torch."
        raise SettingError(Problem("backend", backend, obstacle, form=form))
    return backend
