"""The short convolution's kernels as an operator of torch, which torch.compile leaves whole.

Shape suffixes: B games, L positions, D channels, K taps, W ``K - 1``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tessera.model.kernels.convolution_launch import convolution_backward, convolution_forward

_SCHEMA = "(Tensor x, Tensor taps, Tensor bias, Tensor? before"


causal_convolution_operator = torch.library.custom_op(
    "tessera::causal_convolution",
    convolution_forward,
    mutates_args=(),
    schema=f"{_SCHEMA}) -> Tensor",
)


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
    inputs = (x_BLD, taps_DK, bias_D, before_BWD)
    grads = convolution_backward(*inputs, grad_y_BLD)
    return [
        grad.to(tensor.dtype)
        for grad, tensor in zip(grads, inputs, strict=True)
        if grad is not None and tensor is not None
    ]


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
