"""Where a kernel starts: Triton takes the current CUDA device, whatever the tensors say."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make this the current device while a kernel is launched; nothing in the interpreter."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
