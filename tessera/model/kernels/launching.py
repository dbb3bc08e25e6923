"""How the kernels are started: with how many programs, which options and which strides."""

from __future__ import annotations

import torch
from torch import Tensor

# One warp a program; the fusion of multiply and add is not every version's default.
OPTIONS = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}


def resident_programs(device: torch.device, per_multiprocessor: int) -> int:
    """Programs that a GPU holds at once; 2 in the interpreter, so that some take several items."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count * per_multiprocessor


def rows_of(*tensors: Tensor) -> tuple[list[Tensor], list[int]]:
    """Tensors (batch, length, any) with a contiguous last axis, and the strides of the others.

    Halves of a projection are taken as they lie; what lies otherwise is copied. The strides come
    game, position, game, position, …, in the order of the tensors, which is that of the kernels.

    Raises:
        ValueError: if one game spans more elements than a kernel counts within a game.
    """
    rows, strides = [], []
    for tensor in tensors:
        row = tensor if tensor.stride(2) == 1 else tensor.contiguous()
        if row.shape[1] * row.stride(1) >= 2**31:
            raise ValueError(
                f"a game must span fewer than 2^31 elements, got {row.shape[1]} positions of "
                f"{row.stride(1)}; cut it and carry the state, or set scan to torch."
            )
        rows.append(row)
        strides += [row.stride(0), row.stride(1)]
    return rows, strides


def weight(tensor: Tensor) -> Tensor:
    """The tensor as the kernels read weights and states: float32 and contiguous."""
    return tensor.to(torch.float32).contiguous()
