"""A 3×3 convolution over boards, whose gradient is the same bits each time on a GPU too.

Shape suffixes: T boards, N rows, C channels.
"""

from __future__ import annotations

import math
from typing import Any

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
        """Boards (T, N, N, channels); with ``is_residual`` added to what came in."""
        device = boards_TNNC.device.type
        dtype = self.weight.dtype
        if torch.is_autocast_enabled(device) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(device)
        boards_TNNC, weight, bias = (
            tensor.to(dtype) for tensor in (boards_TNNC, self.weight, self.bias)
        )
        with torch.autocast(device, enabled=False):
            boards_TCNN = boards_TNNC.permute(0, 3, 1, 2)  # of which the memory is as before
            found_TNNC = _Convolution.apply(boards_TCNN, weight).permute(0, 2, 3, 1)
            activated_TNNC = (found_TNNC + bias).relu_()
        return boards_TNNC + activated_TNNC if is_residual else activated_TNNC

    def extra_repr(self) -> str:
        """The channels, for ``print(model)``."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


class _Convolution(torch.autograd.Function):
    """The convolution alone; of cuDNN's algorithms those that always give the same bits."""

    @staticmethod
    def forward(ctx: Any, boards_TCNN: Tensor, weight: Tensor) -> Tensor:
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(boards_TCNN, weight)
        with _same_bits():
            return torch.conv2d(boards_TCNN, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TCNN: Tensor) -> tuple[Tensor | None, Tensor | None]:
        boards_TCNN, weight = ctx.saved_tensors
        with _same_bits():
            grad_boards, grad_weight, _ = torch.ops.aten.convolution_backward(
                *(grad_TCNN, boards_TCNN, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1),
                (*ctx.needs_input_grad, False),
            )
        return grad_boards, grad_weight


def _same_bits() -> Any:
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


def scaled_linear(features_in: int, features: int, scale: float) -> nn.Linear:
    """A matrix with a bias, small at the start: ``scale`` of what keeps a vector's size."""
    layer = nn.Linear(features_in, features)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(features_in))
    nn.init.zeros_(layer.bias)
    return layer
