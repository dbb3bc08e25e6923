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

from tessera.model.convolution import ConvolutionInputs
from tessera.model.kernels.convolution_launch import convolution_backward, convolution_forward
from tessera.model.kernels.operators import operator_of
from tessera.model.kernels.scan_launch import scan_backward, scan_forward
from tessera.model.scans.selective import ScanInputs
from tessera.model.selective_mixing import MixingInputs


def _forward(inputs: MixingInputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The results of ``tessera.model.selective_mixing.mix_channels``.

    Two more for the backward: the output of the convolution (B, L, D), and what is selected at each
    position (B, L, M).
    """
    x_BLD = convolution_forward(_of_convolution(inputs))
    selected_BLM = F.linear(x_BLD, inputs.select_MD.to(x_BLD.dtype))
    y_BLD, last_BDN = scan_forward(_of_scan(inputs, x_BLD, selected_BLM))
    return y_BLD, last_BDN, x_BLD, selected_BLM


def _backward(
    inputs: MixingInputs,
    x_BLD: Tensor,
    selected_BLM: Tensor,
    grad_y_BLD: Tensor | None,
    grad_last_BDN: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """The gradients of the first ten arguments, in their order."""
    dt_DR = inputs.dt_DR
    grad_xz_BLE = inputs.xz_BLE.new_empty(inputs.xz_BLE.shape)
    grad_seen_BLD, grad_z_BLD = grad_xz_BLE.chunk(2, dim=-1)
    scanned = _of_scan(inputs, x_BLD, selected_BLM)
    scan = scan_backward(scanned, grad_y_BLD, grad_last_BDN, scanned.dt_BLD, grad_z_BLD)
    # The projections, position by position: T are all positions of all games.
    rank = dt_DR.shape[1]
    grad_dt_TD, grad_x_TD = scan.dt_BLD.flatten(0, 1), scan.x_BLD.flatten(0, 1)
    selected_TM, x_TD = selected_BLM.flatten(0, 1), x_BLD.flatten(0, 1)
    grad_selected_TM = torch.empty_like(selected_TM)
    torch.mm(grad_dt_TD, dt_DR.to(x_TD.dtype), out=grad_selected_TM[:, :rank])
    grad_selected_TM[:, rank:].copy_(scan.BC_BL2N.flatten(2).flatten(0, 1))
    grad_dt_DR = grad_dt_TD.t() @ selected_TM[:, :rank]
    grad_select_MD = grad_selected_TM.t() @ x_TD
    grad_x_TD.addmm_(grad_selected_TM, inputs.select_MD.to(x_TD.dtype))
    _, *of_taps, grad_before_BWD = convolution_backward(
        _of_convolution(inputs), scan.x_BLD, grad_seen_BLD
    )
    of_projections = (grad_select_MD, grad_dt_DR)
    of_scan = (scan.A_DN, scan.D_D, scan.dt_bias_D)
    return grad_xz_BLE, *of_taps, *of_projections, *of_scan, grad_before_BWD, scan.state_BDN


def _of_convolution(inputs: MixingInputs) -> ConvolutionInputs:
    x_BLD, _ = inputs.xz_BLE.chunk(2, dim=-1)
    return ConvolutionInputs(x_BLD, inputs.taps_DK, inputs.taps_bias_D, inputs.before_BWD)


def _of_scan(inputs: MixingInputs, x_BLD: Tensor, selected_BLM: Tensor) -> ScanInputs:
    *_, dt_DR, A_DN, D_D, dt_bias_D, _, state_BDN, is_pad_BL = inputs
    sizes = [dt_DR.shape[1], A_DN.shape[1], A_DN.shape[1]]
    dt_BLR, B_BLN, C_BLN = selected_BLM.split(sizes, dim=-1)
    dt_BLD = F.linear(dt_BLR, dt_DR.to(selected_BLM.dtype))
    _, z_BLD = inputs.xz_BLE.chunk(2, dim=-1)
    return ScanInputs(
        x_BLD, dt_BLD, A_DN, B_BLN, C_BLN, D_D, z_BLD, dt_bias_D, state_BDN, is_pad_BL
    )


def _room(inputs: MixingInputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For the results."""
    xz_BLE, A_DN = inputs.xz_BLE, inputs.A_DN
    rows = xz_BLE.shape[:2]
    last_BDN = xz_BLE.new_empty(rows[0], *A_DN.shape, dtype=torch.float32)
    y_BLD, x_BLD = (xz_BLE.new_empty(*rows, len(A_DN)) for _ in range(2))
    return y_BLD, last_BDN, x_BLD, xz_BLE.new_empty(*rows, len(inputs.select_MD))


MIXING = operator_of("mixing", MixingInputs, _forward, _backward, _room, num_results=2, num_kept=2)


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
