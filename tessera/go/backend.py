"""Where games are played, and by which code: plain torch, or the Triton kernels beside it."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

BACKENDS = ("auto", "torch", "triton")
_MIN_CAPABILITY = (8, 0)  # Triton's own lower limit


def check_device(device: str | torch.device) -> torch.device:
    """The device; ValueError if it is a CUDA device and torch finds none."""
    result = torch.device(device)
    if result.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be cpu where torch finds no CUDA device, got {device}.")
    return result


def resolve_backend(backend: str, device: torch.device) -> str:
    """Which of "torch" and "triton"; "auto" takes Triton on every CUDA device that it supports.

    Raises:
        ValueError: if there is no such backend, or Triton cannot run on this device. Its
            interpreter, which its own switch TRITON_INTERPRET=1 turns on, runs on the CPU.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend}.")
    obstacle = "" if backend == "torch" else _obstacle(device)
    if backend == "auto":
        return "torch" if obstacle or device.type != "cuda" else "triton"
    if obstacle:
        raise ValueError(f"backend triton needs {obstacle}; use auto or torch.")
    return backend


def _obstacle(device: torch.device) -> str:
    """What Triton would need to run on this device; empty if it can."""
    if find_spec("triton") is None:
        return "the package triton"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if device.type != "cuda" or torch.version.cuda is None:
        return f"a CUDA device, got {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < _MIN_CAPABILITY:
        needed, found = (".".join(map(str, pair)) for pair in (_MIN_CAPABILITY, capability))
        return f"a CUDA device of compute capability {needed} or above, got {found}"
    return ""
