"""How the kernels are started: on which device, with how many programs and how large blocks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# One warp a program; the fusion of multiply and add is not every version's default.
OPTIONS = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make this the current device while a kernel is launched; nothing in the interpreter.

    Triton takes the current CUDA device, whatever the tensors say.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def resident_programs(device: torch.device, per_multiprocessor: int) -> int:
    """Programs that a GPU holds at once; 2 in the interpreter, so that some take several items."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count * per_multiprocessor


def unit_channels(tensor: Tensor) -> Tensor:
    """The tensor itself if its last axis is contiguous, as halves of a projection are, or a copy.

    Raises:
        ValueError: if one game spans more elements than a kernel counts within a game.
    """
    result = tensor if tensor.stride(-1) == 1 else tensor.contiguous()
    if result.stride(1) * result.shape[1] >= 2**31:
        raise ValueError(
            f"a game must span fewer than 2^31 elements, got {result.shape[1]} positions of "
            f"{result.stride(1)}; cut it and carry the state, or set scan to torch."
        )
    return result
