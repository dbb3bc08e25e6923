"""The short convolution's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: B games, L positions, D channels, K taps, W ``K - 1``; P programs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tessera.accelerator import current
from tessera.model.kernels.convolution import (
    convolution_backward_kernel,
    convolution_forward_kernel,
)
from tessera.model.kernels.launching import OPTIONS, resident_programs, rows_of, weight

CHANNELS = 64  # a warp reads whole lines of 128 bytes in bfloat16
FORWARD_STEPS = 8
BACKWARD_STEPS = 16
PROGRAMS = 16  # of the backward on a multiprocessor: its registers hold so many warps

_SCHEMA = "(Tensor x, Tensor taps, Tensor bias, Tensor? before"


@torch.library.custom_op(
    "tessera::causal_convolution", mutates_args=(), schema=f"{_SCHEMA}) -> Tensor"
)
def causal_convolution_operator(
    x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor, before_BWD: Tensor | None
) -> Tensor:
    """The output of ``tessera.model.causal_convolution``, which lists the arguments."""
    assert len(taps_DK) == len(bias_D) == x_BLD.shape[2]
    y_BLD = _output(x_BLD)
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


@torch.library.custom_op(
    "tessera::causal_convolution_backward",
    mutates_args=(),
    schema=f"{_SCHEMA}, Tensor grad_y) -> Tensor[]",
)
def causal_convolution_backward_operator(
    x_BLD: Tensor,
    taps_DK: Tensor,
    bias_D: Tensor,
    before_BWD: Tensor | None,
    grad_y_BLD: Tensor,
) -> list[Tensor]:
    """The gradients of the four arguments, or of three without ``before``, in their order."""
    (x, grad_y), strides = rows_of(x_BLD, grad_y_BLD)
    num_games, length, num_channels = x_BLD.shape
    num_taps = taps_DK.shape[1]
    blocks = triton.cdiv(num_channels, CHANNELS)
    rounds = triton.cdiv(num_games * blocks, resident_programs(x.device, PROGRAMS))
    num_programs = triton.cdiv(num_games, rounds)
    steps = max(min(BACKWARD_STEPS, length), num_taps - 1)
    grad_x = _output(x_BLD)
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
            grad_x,
            parts_PD if grad_before is None else grad_before,
            parts_PKD,
            parts_PD,
            num_games,
            length,
            num_channels,
            *strides,
            **_shape_options(x_BLD, taps_DK, steps),
            HAS_BEFORE=before_BWD is not None,
            **OPTIONS,
        )
    grad_taps = parts_PKD.sum(0).t().contiguous()
    grads = [grad_x, grad_taps.to(taps_DK.dtype), parts_PD.sum(0).to(bias_D.dtype)]
    if before_BWD is not None and grad_before is not None:
        grads.append(grad_before.to(before_BWD.dtype))
    return grads


@causal_convolution_operator.register_fake
def _output(x_BLD: Tensor, *others: Any) -> Tensor:
    """Room for the output, or for the gradient of x."""
    return x_BLD.new_empty(x_BLD.shape)


@causal_convolution_backward_operator.register_fake
def _gradients(*arguments: Tensor | None) -> list[Tensor]:
    """Room for a gradient of every argument of the forward that is a tensor."""
    return [tensor.new_empty(tensor.shape) for tensor in arguments[:4] if tensor is not None]


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_y_BLD: Tensor) -> tuple[Tensor | None, ...]:
    grads = causal_convolution_backward_operator(*ctx.saved_tensors, grad_y_BLD)
    return (*grads, None)[:4]


causal_convolution_operator.register_autograd(_backward, setup_context=_save)


def _shape_options(x_BLD: Tensor, taps_DK: Tensor, steps: int) -> dict[str, Any]:
    """What the kernels' code depends on in the shapes."""
    _, length, num_channels = x_BLD.shape
    return {
        "CHANNELS": CHANNELS,
        "TAPS": taps_DK.shape[1],
        "STEPS": steps,
        "WHOLE": length % steps == 0 and num_channels % CHANNELS == 0,
    }
