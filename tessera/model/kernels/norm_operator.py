"""How the norm's kernels are started, and the two operators of torch that do it.

One adds before it, one does not: an operator's result cannot be what it was given.

Shape suffixes: H ``d_model``; P programs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.launching import OPTIONS, resident_programs, weight
from tessera.model.kernels.norm import norm_backward_kernel, norm_forward_kernel
from tessera.model.kernels.operators import operator_of

ELEMENTS = 512  # of a warp at once: 16 registers of a thread for each tensor
MAX_WARPS = 32  # of a program: CUDA's limit
MAX_ROWS = 32
FORWARD_WARPS = 32  # on a multiprocessor
BACKWARD_WARPS = 16


class NormInputs(NamedTuple):
    """The arguments of ``tessera.model.norm.add_and_normalize`` if nothing is added."""

    hidden: Tensor
    weight_H: Tensor
    eps: float
    dtype: torch.dtype


class AddedNormInputs(NamedTuple):
    """The arguments of ``tessera.model.norm.add_and_normalize``."""

    hidden: Tensor
    added: Tensor
    weight_H: Tensor
    eps: float
    dtype: torch.dtype


def _normalize(inputs: NormInputs) -> Tensor:
    """The norm."""
    normed = _norm_room(inputs)
    hidden = inputs.hidden.contiguous()
    _launch_forward(hidden, hidden, hidden, normed, inputs.weight_H, inputs.eps, False)
    return normed


def _add_and_normalize(inputs: AddedNormInputs) -> tuple[Tensor, Tensor]:
    """The sum and its norm."""
    assert inputs.hidden.shape == inputs.added.shape
    total, normed = _added_norm_room(inputs)
    hidden, added = inputs.hidden.contiguous(), inputs.added.contiguous()
    _launch_forward(hidden, added, total, normed, inputs.weight_H, inputs.eps, True)
    return total, normed


def _launch_forward(
    hidden: Tensor,
    added: Tensor,
    total: Tensor,
    normed: Tensor,
    weight_H: Tensor,
    eps: float,
    has_added: bool,
) -> None:
    programs, options = _division(hidden, FORWARD_WARPS)
    if not programs:
        return
    with current(hidden.device):
        norm_forward_kernel[(programs,)](
            hidden,
            added,
            weight(weight_H),
            total,
            normed,
            hidden.numel() // len(weight_H),
            len(weight_H),
            eps,
            HAS_ADDED=has_added,
            **options,
        )


def _differentiate_norm(inputs: NormInputs, grad_normed: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the vectors and of the weight."""
    grad_hidden = inputs.hidden.new_empty(inputs.hidden.shape)
    hidden, weight_H, eps, _ = inputs
    grad_weight_H = _launch_backward(
        hidden.contiguous(), weight_H, eps, None, grad_normed, grad_hidden, None
    )
    return grad_hidden, grad_weight_H


def _differentiate_added_norm(
    inputs: AddedNormInputs, total: Tensor, grad_total: Tensor | None, grad_normed: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of both tensors of vectors and of the weight."""
    hidden, added, weight_H, eps, dtype = inputs
    if grad_normed is None:
        grad_normed = total.new_zeros(total.shape, dtype=dtype)
    grad_hidden, grad_added = hidden.new_empty(hidden.shape), added.new_empty(added.shape)
    grad_weight_H = _launch_backward(
        total, weight_H, eps, grad_total, grad_normed, grad_hidden, grad_added
    )
    return grad_hidden, grad_added, grad_weight_H


def _launch_backward(
    total: Tensor,
    weight_H: Tensor,
    eps: float,
    grad_total: Tensor | None,
    grad_normed: Tensor,
    grad_hidden: Tensor,
    grad_added: Tensor | None,
) -> Tensor:
    """The gradient of the weight, float32; those of the vectors are written."""
    programs, options = _division(total, BACKWARD_WARPS)
    parts_PH = total.new_empty(programs, len(weight_H), dtype=torch.float32)
    if programs:
        with current(total.device):
            norm_backward_kernel[(programs,)](
                total,
                weight(weight_H),
                total if grad_total is None else grad_total.contiguous(),
                grad_normed.contiguous(),
                grad_hidden,
                grad_hidden if grad_added is None else grad_added,
                parts_PH,
                total.numel() // len(weight_H),
                len(weight_H),
                eps,
                HAS_ADDED=grad_added is not None,
                HAS_GRAD_TOTAL=grad_total is not None,
                **options,
            )
    return parts_PH.sum(0)


def _division(rows: Tensor, warps: int) -> tuple[int, dict[str, Any]]:
    """With how many programs all vectors are done, and what the kernels' code depends on.

    Args:
        rows: (…, H), contiguous.
        warps: that a multiprocessor holds.
    """
    num_columns = rows.shape[-1]
    num_rows = rows.numel() // num_columns
    width = triton.next_power_of_2(num_columns)
    num_warps = min(max(width // ELEMENTS, 1), MAX_WARPS)
    at_once = min(max(ELEMENTS // width, 1), MAX_ROWS)
    blocks = triton.cdiv(num_rows, at_once)
    resident = resident_programs(rows.device, max(warps // num_warps, 1))
    options = {
        **OPTIONS,
        # Unfused, they round as the norm alone and torch's own addition do, and wait for memory.
        "enable_fp_fusion": False,
        "num_warps": num_warps,
        "WIDTH": width,
        "ROWS": at_once,
        "WHOLE": width == num_columns and num_rows % at_once == 0,
    }
    return min(blocks, resident), options


def _norm_room(inputs: NormInputs) -> Tensor:
    """For the norm."""
    return inputs.hidden.new_empty(inputs.hidden.shape, dtype=inputs.dtype)


def _added_norm_room(inputs: AddedNormInputs) -> tuple[Tensor, Tensor]:
    """For the sum and its norm."""
    hidden, dtype = inputs.hidden, torch.promote_types(inputs.hidden.dtype, inputs.added.dtype)
    total, normed = (hidden.new_empty(hidden.shape, dtype=each) for each in (dtype, inputs.dtype))
    return total, normed


NORM = operator_of("norm", NormInputs, _normalize, _differentiate_norm, _norm_room)
ADDED_NORM = operator_of(
    "added_norm",
    AddedNormInputs,
    _add_and_normalize,
    _differentiate_added_norm,
    _added_norm_room,
    num_results=2,
    num_read_again=1,
    unread=("hidden", "added"),
)
