"""How the short convolution's kernels are started, and the operator of torch that does it.

Shape suffixes: B games, L positions, D channels, K taps, W ``K - 1``; P programs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.convolution import ConvolutionInputs
from tessera.model.kernels.convolution import (
    convolution_backward_kernel,
    convolution_forward_kernel,
)
from tessera.model.kernels.launching import OPTIONS, resident_programs, rows_of, weight
from tessera.model.kernels.operators import operator_of

CHANNELS = 64  # a warp reads whole lines of 128 bytes in bfloat16
FORWARD_STEPS = 8
BACKWARD_STEPS = 16
PROGRAMS = 16  # of the backward on a multiprocessor: its registers hold so many warps


def convolution_forward(inputs: ConvolutionInputs) -> Tensor:
    """The output of ``tessera.model.convolution.causal_convolution``, which lists the arguments."""
    x_BLD, taps_DK, bias_D, before_BWD = inputs
    assert len(taps_DK) == len(bias_D) == x_BLD.shape[2]
    y_BLD = x_BLD.new_empty(x_BLD.shape)
    (x,), strides = rows_of(x_BLD)
    num_games, length, num_channels = x_BLD.shape
    steps = min(FORWARD_STEPS, length)
    blocks = triton.cdiv(num_channels, CHANNELS)
    with current(x_BLD.device):
        convolution_forward_kernel[(num_games * triton.cdiv(length, steps) * blocks,)](
            x,
            weight(taps_DK.t()),
            weight(bias_D),
            y_BLD if before_BWD is None else weight(before_BWD),
            y_BLD,
            length,
            num_channels,
            *strides,
            **_shape_options(x_BLD, taps_DK, steps),
            HAS_BEFORE=before_BWD is not None,
            **OPTIONS,
        )
    return y_BLD


def convolution_backward(
    inputs: ConvolutionInputs, grad_y_BLD: Tensor, grad_x_BLD: Tensor | None = None
) -> ConvolutionInputs:
    """The gradients of the arguments: of x in its dtype, of all else float32.

    Args:
        grad_y_BLD: of the output.
        grad_x_BLD: where to write the gradient of ``x_BLD``, such as half of a contiguous tensor.
            None means new memory.
    """
    x_BLD, taps_DK, bias_D, before_BWD = inputs
    (x, grad_y), strides = rows_of(x_BLD, grad_y_BLD)
    num_games, length, num_channels = x_BLD.shape
    num_taps = taps_DK.shape[1]
    blocks = triton.cdiv(num_channels, CHANNELS)
    rounds = triton.cdiv(num_games * blocks, resident_programs(x.device, PROGRAMS))
    num_programs = triton.cdiv(num_games, rounds)
    steps = max(min(BACKWARD_STEPS, length), num_taps - 1)
    if grad_x_BLD is None:
        grad_x_BLD = x_BLD.new_empty(x_BLD.shape)
    parts_PKD = x.new_empty(num_programs, num_taps, num_channels, dtype=torch.float32)
    parts_PD = parts_PKD.new_empty(num_programs, num_channels)
    grad_before = None if before_BWD is None else parts_PD.new_empty(before_BWD.shape)
    with current(x_BLD.device):
        convolution_backward_kernel[(num_programs, blocks)](
            x,
            weight(taps_DK.t()),
            weight(bias_D),
            parts_PD if before_BWD is None else weight(before_BWD),
            grad_y,
            grad_x_BLD,
            parts_PD if grad_before is None else grad_before,
            parts_PKD,
            parts_PD,
            num_games,
            length,
            num_channels,
            *strides,
            grad_x_BLD.stride(1),
            **_shape_options(x_BLD, taps_DK, steps),
            HAS_BEFORE=before_BWD is not None,
            **OPTIONS,
        )
    grad_taps_DK = parts_PKD.sum(0).t().contiguous()
    return ConvolutionInputs(grad_x_BLD, grad_taps_DK, parts_PD.sum(0), grad_before)


def _shape_options(x_BLD: Tensor, taps_DK: Tensor, steps: int) -> dict[str, Any]:
    """What the kernels' code depends on in the shapes."""
    _, length, num_channels = x_BLD.shape
    return {
        "CHANNELS": CHANNELS,
        "TAPS": taps_DK.shape[1],
        "STEPS": steps,
        "WHOLE": length % steps == 0 and num_channels % CHANNELS == 0,
    }


CONVOLUTION = operator_of(
    "causal_convolution",
    ConvolutionInputs,
    convolution_forward,
    convolution_backward,
    room=lambda inputs: inputs.x_BLD.new_empty(inputs.x_BLD.shape),
)
