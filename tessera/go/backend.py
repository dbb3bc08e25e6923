"""Which code plays: plain torch, or the Triton kernels beside it."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

BACKENDS = ("auto", "torch", "triton")


def resolve_backend(backend: str, device: torch.device) -> str:
    """ "torch" or "triton"; "auto" takes Triton on a CUDA device where it is installed.

    Raises:
        ValueError: if there is no such backend, or Triton cannot run on this device. Its
            interpreter, which its own switch TRITON_INTERPRET=1 turns on, runs on the CPU.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend}.")
    has_triton = find_spec("triton") is not None
    on_cuda = device.type == "cuda" and torch.version.cuda is not None
    if backend == "auto":
        return "triton" if has_triton and on_cuda else "torch"
    if backend == "triton" and not has_triton:
        raise ValueError("backend triton needs the package triton; install it or use auto.")
    if backend == "triton" and not on_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"backend triton needs a CUDA device, got {device}; use auto or torch.")
    return backend
