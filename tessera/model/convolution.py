"""The short causal convolution in front of the selective scan, in plain torch.

Shape suffixes: B games, L positions, D channels (``d_inner``), K taps (``d_conv``), W ``K - 1``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_TAPS = 8  # of the kernel, whose thread holds them in registers


class ConvolutionInputs(NamedTuple):
    """The arguments of ``causal_convolution``."""

    x_BLD: Tensor
    taps_DK: Tensor
    bias_D: Tensor
    before_BWD: Tensor | None = None


def causal_convolution(
    x_BLD: Tensor, taps_DK: Tensor, bias_D: Tensor, before_BWD: Tensor | None = None
) -> Tensor:
    """The depthwise convolution with each position and the K - 1 before it, through silu.

    This is the specification of the kernel. Shifted multiply-adds: for four taps they take two
    thirds of the time of ``F.conv1d`` on a CPU, forward and backward, and need no transposed copy.

    Args:
        x_BLD: (B, L, D), L at least 1.
        taps_DK: weights, the oldest position's first, (D, K).
        bias_D: (D,).
        before_BWD: inputs of the positions before the first, oldest first, (B, W, D); None means
            zeros.

    Returns:
        (B, L, D) in the dtype of ``x_BLD``.
    """
    length, width = x_BLD.shape[1], taps_DK.shape[1] - 1
    if before_BWD is None:
        seen = F.pad(x_BLD, (0, 0, width, 0))
    else:
        seen = torch.cat((before_BWD.to(x_BLD.dtype), x_BLD), dim=1)
    total = bias_D
    for tap, weight_D in enumerate(taps_DK.t()):
        total = torch.addcmul(total, seen[:, tap : tap + length], weight_D)
    return F.silu(total).to(x_BLD.dtype)


def triton_convolution(*arguments: Any, **named: Any) -> Tensor:
    """The same as ``causal_convolution``, computed by the Triton kernels in ``model.kernels``.

    float64, and more taps than a thread's registers hold, are left to the plain form.
    """
    inputs = ConvolutionInputs(*arguments, **named)
    if inputs.x_BLD.dtype == torch.float64 or inputs.taps_DK.shape[1] > MAX_TAPS:
        return causal_convolution(*inputs)
    from tessera.model.kernels.convolution_launch import CONVOLUTION

    return CONVOLUTION.forward(*inputs)


def last_inputs(
    x_BLD: Tensor, width: int, is_pad_BL: Tensor | None = None, before_BWD: Tensor | None = None
) -> Tensor:
    """What the next part of each game needs as ``before_BWD``: its last W inputs, float32.

    Args:
        x_BLD: (B, L, D).
        width: W.
        is_pad_BL: (B, L) bool, True at PAD, after the moves of its row; None means there is none.
            PAD pushes no move out.
        before_BWD: the inputs before the first position, (B, W, D); None means zeros.
    """
    num_games, length, num_channels = x_BLD.shape
    if before_BWD is None:
        before_BWD = x_BLD.new_zeros(num_games, width, num_channels)
    before_BWD = before_BWD.to(x_BLD.dtype)
    if is_pad_BL is None:
        if length < width:
            return torch.cat((before_BWD[:, length:], x_BLD), dim=1).float()
        return x_BLD[:, length - width :].float()
    # Counted from the first position; what came before it has negative places.
    num_moves_B = length - is_pad_BL.sum(dim=1)
    place_BW = num_moves_B[:, None] + torch.arange(-width, 0, device=x_BLD.device)
    game_B1 = torch.arange(num_games, device=x_BLD.device)[:, None]
    inside = x_BLD[game_B1, place_BW.clamp(min=0)]
    earlier = before_BWD[game_B1, (place_BW + width).clamp(max=width - 1)]
    return torch.where((place_BW < 0)[..., None], earlier, inside).float()
