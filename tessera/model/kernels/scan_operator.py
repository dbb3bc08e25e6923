"""The selective scan's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: B games, L positions, D channels, N states of a channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tessera.model.kernels.scan_launch import scan_backward, scan_forward

_SCHEMA = """(
    Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, Tensor z, Tensor dt_bias,
    Tensor? state, Tensor? is_pad"""


selective_scan_operator = torch.library.custom_op(
    "tessera::selective_scan",
    scan_forward,
    mutates_args=(),
    schema=f"{_SCHEMA}) -> (Tensor, Tensor)",
)


@torch.library.custom_op(
    "tessera::selective_scan_backward",
    mutates_args=(),
    schema=f"{_SCHEMA}, Tensor grad_y, Tensor? grad_last) -> Tensor[]",
)
def selective_scan_backward_operator(
    x_BLD: Tensor,
    dt_BLD: Tensor,
    A_DN: Tensor,
    B_BLN: Tensor,
    C_BLN: Tensor,
    D_D: Tensor,
    z_BLD: Tensor,
    dt_bias_D: Tensor,
    state_BDN: Tensor | None,
    is_pad_BL: Tensor | None,
    grad_y_BLD: Tensor,
    grad_last_BDN: Tensor | None,
) -> list[Tensor]:
    """The gradients of the first nine arguments, or eight without a state, in their order."""
    inputs = (x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN)
    grads = scan_backward(*inputs, is_pad_BL, grad_y_BLD, grad_last_BDN)
    # Results of an operator must not share memory, nor lie with gaps.
    grad_B, grad_C = (
        part.clone(memory_format=torch.contiguous_format) for part in grads.BC_BL2N.unbind(2)
    )
    result = (*grads[:3], grad_B, grad_C, *grads[4:])
    return [
        grad.to(tensor.dtype)
        for grad, tensor in zip(result, inputs, strict=True)
        if grad is not None and tensor is not None
    ]


@selective_scan_operator.register_fake
def _outputs(x_BLD: Tensor, dt_BLD: Tensor, A_DN: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """Room for the output and the last state."""
    last_BDN = x_BLD.new_empty(x_BLD.shape[0], *A_DN.shape, dtype=torch.float32)
    return x_BLD.new_empty(x_BLD.shape), last_BDN


@selective_scan_backward_operator.register_fake
def _gradients(*arguments: Tensor | None) -> list[Tensor]:
    """Room for a gradient of every argument of the forward that is a tensor."""
    return [tensor.new_empty(tensor.shape) for tensor in arguments[:9] if tensor is not None]


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs)


def _backward(
    ctx: Any, grad_y_BLD: Tensor | None, grad_last_BDN: Tensor | None
) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    if grad_y_BLD is None:
        grad_y_BLD = torch.zeros_like(inputs[0])
    grads = selective_scan_backward_operator(*inputs, grad_y_BLD, grad_last_BDN)
    return (*grads, None, None)[:10]


selective_scan_operator.register_autograd(_backward, setup_context=_save)
