"""All that lies between a mixer's two large projections, as one operator of torch.

As operators of their own, the convolution, the projections and the scan would have their gradients
joined by copies: the two halves of what they read, the parts of what was selected, and the two
gradients of the convolution's output. Here each is written where it belongs.

Shape suffixes: B games, L positions, D channels, E ``2 * D``, N states of a channel, R rank of the
step sizes, M ``R + 2 * N``, K taps, W ``K - 1``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from tessera.model.kernels.convolution_launch import convolution_backward, convolution_forward
from tessera.model.kernels.scan_launch import scan_backward, scan_forward

_SCHEMA = """(
    Tensor xz, Tensor taps, Tensor taps_bias, Tensor select, Tensor dt, Tensor A, Tensor D,
    Tensor dt_bias, Tensor? before, Tensor? state, Tensor? is_pad"""


@torch.library.custom_op(
    "tessera::mixing",
    mutates_args=(),
    schema=f"{_SCHEMA}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def mixing_operator(
    xz_BLE: Tensor,
    taps_DK: Tensor,
    taps_bias_D: Tensor,
    select_MD: Tensor,
    dt_DR: Tensor,
    A_DN: Tensor,
    D_D: Tensor,
    dt_bias_D: Tensor,
    before_BWD: Tensor | None,
    state_BDN: Tensor | None,
    is_pad_BL: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The results of ``tessera.model.selective_mixing.mix_channels``, which lists the arguments.

    Two more for the backward, without gradients: the output of the convolution (B, L, D), and what
    is selected at each position (B, L, M).
    """
    seen_BLD, z_BLD = xz_BLE.chunk(2, dim=-1)
    x_BLD = convolution_forward(seen_BLD, taps_DK, taps_bias_D, before_BWD)
    selected_BLM = F.linear(x_BLD, select_MD.to(x_BLD.dtype))
    dt_BLD, B_BLN, C_BLN = _take_apart(selected_BLM, dt_DR, A_DN)
    y_BLD, last_BDN = scan_forward(
        x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN, is_pad_BL
    )
    return y_BLD, last_BDN, x_BLD, selected_BLM


@torch.library.custom_op(
    "tessera::mixing_backward",
    mutates_args=(),
    schema=f"{_SCHEMA}, Tensor x, Tensor selected, Tensor grad_y, Tensor? grad_last) -> Tensor[]",
)
def mixing_backward_operator(
    xz_BLE: Tensor,
    taps_DK: Tensor,
    taps_bias_D: Tensor,
    select_MD: Tensor,
    dt_DR: Tensor,
    A_DN: Tensor,
    D_D: Tensor,
    dt_bias_D: Tensor,
    before_BWD: Tensor | None,
    state_BDN: Tensor | None,
    is_pad_BL: Tensor | None,
    x_BLD: Tensor,
    selected_BLM: Tensor,
    grad_y_BLD: Tensor,
    grad_last_BDN: Tensor | None,
) -> list[Tensor]:
    """The gradients of the first ten arguments, or of those that are given, in their order."""
    seen_BLD, z_BLD = xz_BLE.chunk(2, dim=-1)
    grad_xz_BLE = xz_BLE.new_empty(xz_BLE.shape)
    grad_seen_BLD, grad_z_BLD = grad_xz_BLE.chunk(2, dim=-1)
    dt_BLD, B_BLN, C_BLN = _take_apart(selected_BLM, dt_DR, A_DN)
    scan = scan_backward(
        x_BLD,
        dt_BLD,
        A_DN,
        B_BLN,
        C_BLN,
        D_D,
        z_BLD,
        dt_bias_D,
        state_BDN,
        is_pad_BL,
        grad_y_BLD,
        grad_last_BDN,
        grad_dt_BLD=dt_BLD,
        grad_z_BLD=grad_z_BLD,
    )
    # The projections, position by position: T are all positions of all games.
    rank = dt_DR.shape[1]
    grad_dt_TD, grad_x_TD = scan.dt_BLD.flatten(0, 1), scan.x_BLD.flatten(0, 1)
    selected_TM, x_TD = selected_BLM.flatten(0, 1), x_BLD.flatten(0, 1)
    grad_selected_TM = torch.empty_like(selected_TM)
    torch.mm(grad_dt_TD, dt_DR.to(x_TD.dtype), out=grad_selected_TM[:, :rank])
    grad_selected_TM[:, rank:].copy_(scan.BC_BL2N.flatten(2).flatten(0, 1))
    grad_dt_DR = grad_dt_TD.t() @ selected_TM[:, :rank]
    grad_select_MD = grad_selected_TM.t() @ x_TD
    grad_x_TD.addmm_(grad_selected_TM, select_MD.to(x_TD.dtype))
    convolution = convolution_backward(
        seen_BLD, taps_DK, taps_bias_D, before_BWD, scan.x_BLD, grad_x_BLD=grad_seen_BLD
    )
    grads = (
        grad_xz_BLE,
        convolution.taps_DK,
        convolution.bias_D,
        grad_select_MD,
        grad_dt_DR,
        scan.A_DN,
        scan.D_D,
        scan.dt_bias_D,
        convolution.before_BWD,
        scan.state_BDN,
    )
    inputs = (xz_BLE, taps_DK, taps_bias_D, select_MD, dt_DR, A_DN, D_D, dt_bias_D)
    return [
        grad.to(tensor.dtype)
        for grad, tensor in zip(grads, (*inputs, before_BWD, state_BDN), strict=True)
        if grad is not None and tensor is not None
    ]


def _take_apart(selected_BLM: Tensor, dt_DR: Tensor, A_DN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The step sizes of the channels before bias and softplus, B and C."""
    sizes = [dt_DR.shape[1], A_DN.shape[1], A_DN.shape[1]]
    dt_BLR, B_BLN, C_BLN = selected_BLM.split(sizes, dim=-1)
    return F.linear(dt_BLR, dt_DR.to(selected_BLM.dtype)), B_BLN, C_BLN


@mixing_operator.register_fake
def _outputs(
    xz_BLE: Tensor,
    taps_DK: Tensor,
    taps_bias_D: Tensor,
    select_MD: Tensor,
    dt_DR: Tensor,
    A_DN: Tensor,
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the results."""
    rows = xz_BLE.shape[:2]
    last_BDN = xz_BLE.new_empty(rows[0], *A_DN.shape, dtype=torch.float32)
    y_BLD, x_BLD = (xz_BLE.new_empty(*rows, len(A_DN)) for _ in range(2))
    return y_BLD, last_BDN, x_BLD, xz_BLE.new_empty(*rows, len(select_MD))


@mixing_backward_operator.register_fake
def _gradients(*arguments: Tensor | None) -> list[Tensor]:
    """Room for a gradient of every argument of the forward that is a float tensor."""
    return [tensor.new_empty(tensor.shape) for tensor in arguments[:10] if tensor is not None]


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(*inputs, *output[2:])


def _backward(
    ctx: Any, grad_y_BLD: Tensor | None, grad_last_BDN: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    if grad_y_BLD is None:
        grad_y_BLD = torch.zeros_like(saved[-2])
    grads = iter(mixing_backward_operator(*saved, grad_y_BLD, grad_last_BDN))
    return (*(None if tensor is None else next(grads) for tensor in saved[:10]), None)


mixing_operator.register_autograd(_backward, setup_context=_save)


# What torch's counter of floating-point operations cannot see from outside.


@register_flop_formula(torch.ops.tessera.mixing)
def _flops(
    xz_shape: Any, taps: Any, bias: Any, select: Any, dt: Any, *others: Any, **named: Any
) -> int:
    positions = xz_shape[0] * xz_shape[1]
    return 2 * positions * (select[0] * select[1] + dt[0] * dt[1])


@register_flop_formula(torch.ops.tessera.mixing_backward)
def _flops_backward(
    xz_shape: Any, taps: Any, bias: Any, select: Any, dt: Any, *others: Any, **named: Any
) -> int:
    positions = xz_shape[0] * xz_shape[1]
    return 2 * positions * (2 * select[0] * select[1] + 3 * dt[0] * dt[1])
