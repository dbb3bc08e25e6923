"""A 3×3 convolution over boards, whose gradient is the same bits each time on a GPU too.

Shape suffixes: T boards, N rows, C channels.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class BoardConvolution(nn.Module):
    """3×3 convolution, bias and ReLU over boards (T, N, N, C); zeros lie beyond the board.

    Args:
        channels_in: of what comes in.
        channels: of what goes out.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, boards_TNNC: Tensor, is_residual: bool = False) -> Tensor:
        """Boards (T, N, N, channels), see ``convolve``."""
        return convolve(boards_TNNC, (self.weight, self.bias), is_residual)

    def extra_repr(self) -> str:
        """The channels, for ``print(model)``."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


def weights_of(*layers: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Of every layer the weight and the bias."""
    pairs = [(layer.weight, layer.bias) for layer in layers]
    return cast("list[tuple[Tensor, Tensor]]", pairs)


def convolve(
    boards_TNNC: Tensor, weights: tuple[Tensor, Tensor], is_residual: bool = False
) -> Tensor:
    """A convolution of boards (T, N, N, C), and its ReLU.

    Nothing but what comes in and what goes out is kept for the backward pass; on a GPU the forward
    pass is one kernel of cuDNN's.

    Args:
        boards_TNNC: (T, N, N, channels_in).
        weights: (C, channels_in, 3, 3) and the bias (C,).
        is_residual: whether what comes in is added before the ReLU.
    """
    dtype = rounded_dtype(weights[0])
    boards_TNNC, weight, bias = (tensor.to(dtype) for tensor in (boards_TNNC, *weights))
    with torch.autocast(boards_TNNC.device.type, enabled=False):
        boards_TCNN = boards_TNNC.permute(0, 3, 1, 2)  # of which the memory is as before
        found_TCNN = _Convolution.apply(boards_TCNN, weight, bias, is_residual)
    return found_TCNN.permute(0, 2, 3, 1)


def rounded_dtype(weight: Tensor) -> torch.dtype:
    """That of autocast, if there is one, to which a product with this weight would round."""
    device = weight.device.type
    rounds = torch.is_autocast_enabled(device) and weight.dtype != torch.float64
    return torch.get_autocast_dtype(device) if rounds else weight.dtype


class _Convolution(torch.autograd.Function):
    """All of it at once."""

    @staticmethod
    def forward(
        ctx: Any, boards_TCNN: Tensor, weight: Tensor, bias: Tensor, is_residual: bool
    ) -> Tensor:
        weight = weight.contiguous(memory_format=torch.channels_last)
        found_TCNN = activated(boards_TCNN, weight, bias, is_residual)
        ctx.save_for_backward(boards_TCNN, weight, found_TCNN)
        ctx.is_residual = is_residual
        return found_TCNN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TCNN: Tensor) -> tuple[Tensor | None, ...]:
        boards_TCNN, weight, found_TCNN = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        of_sum_TCNN = torch.ops.aten.threshold_backward(grad_TCNN, found_TCNN, 0)
        grad_boards, grad_weight, grad_bias = gradients(of_sum_TCNN, boards_TCNN, weight, needs)
        if ctx.is_residual and needs[0]:
            assert grad_boards is not None
            grad_boards = grad_boards.add_(of_sum_TCNN)
        return grad_boards, grad_weight, grad_bias, None


def activated(boards_TCNN: Tensor, weight: Tensor, bias: Tensor, is_residual: bool) -> Tensor:
    """The ReLU of a convolution (T, C, N, N), all in one dtype and channels_last."""
    with _same_bits():
        if boards_TCNN.is_cuda and _is_fused(
            boards_TCNN.dtype, boards_TCNN.device, *weight.shape[:2]
        ):
            return _fused(boards_TCNN, weight, bias, is_residual)
        found_TCNN = torch.conv2d(boards_TCNN, weight, bias, padding=1)
        return (found_TCNN.add_(boards_TCNN) if is_residual else found_TCNN).relu_()


def _fused(boards_TCNN: Tensor, weight: Tensor, bias: Tensor, is_residual: bool) -> Tensor:
    others = ((1, 1), (1, 1), (1, 1), 1)  # stride, padding, dilation and groups
    if is_residual:
        return torch.cudnn_convolution_add_relu(
            boards_TCNN, weight, boards_TCNN, 1.0, bias, *others
        )
    return torch.cudnn_convolution_relu(boards_TCNN, weight, bias, *others)


@functools.cache
def _is_fused(dtype: torch.dtype, device: torch.device, channels: int, channels_in: int) -> bool:
    """Whether cuDNN has the convolution with its ReLU as one kernel; of float64 it has not."""
    if dtype == torch.float64 or not torch.backends.cudnn.is_available():
        return False
    boards = torch.zeros(1, channels_in, 3, 3, dtype=dtype, device=device)
    weight = torch.zeros(channels, channels_in, 3, 3, dtype=dtype, device=device)
    boards, weight = (
        each.contiguous(memory_format=torch.channels_last) for each in (boards, weight)
    )
    try:
        for is_residual in {False, channels == channels_in}:
            _fused(boards, weight, weight.new_zeros(channels), is_residual)
    except RuntimeError:
        return False
    return True


def gradients(
    of_sum_TCNN: Tensor, boards_TCNN: Tensor, weight: Tensor, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Those of what a convolution read, its weight and bias; None for what needs none.

    Args:
        of_sum_TCNN: the gradient of what the ReLU was given.
        boards_TCNN, weight: what the convolution was given.
        needs: which are wanted.
    """
    with _same_bits():
        return torch.ops.aten.convolution_backward(
            *(of_sum_TCNN, boards_TCNN, weight, list(weight.shape[:1])),
            *((1, 1), (1, 1), (1, 1), False, (0, 0), 1, needs),
        )


def _same_bits() -> Any:
    """Of cuDNN's algorithms those that always give the same bits, and round no float32 to TF32."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


def scaled_linear(features_in: int, features: int, scale: float) -> nn.Linear:
    """A matrix with a bias, small at the start: ``scale`` of what keeps a vector's size."""
    layer = nn.Linear(features_in, features)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(features_in))
    nn.init.zeros_(layer.bias)
    return layer
