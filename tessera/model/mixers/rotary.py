"""Rotary positions: each pair of a head's numbers is turned by an angle that grows with the place.

Source: Su et al., "RoFormer" (arXiv:2104.09864), section 3.2, with the halves of a head as the
pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BASE = 10_000.0  # of the wave lengths, RoFormer's


def rotated(x_BLH: Tensor, place: Tensor, num_heads: int, scale: float = 1.0) -> Tensor:
    """Vectors (B, L, H), each head turned to its place; at least float32.

    Args:
        x_BLH: (B, L, H).
        place: (L,) or (B, L).
        num_heads: of an even width each.
        scale: that the vectors are multiplied with.
    """
    width = x_BLH.shape[-1] // num_heads
    dtype = torch.promote_types(x_BLH.dtype, torch.float32)
    pairs = torch.arange(0, width, 2, device=place.device, dtype=dtype)
    # One angle for every head: (…, L, 1, P / 2).
    angle = (place[..., None] * _BASE ** (-pairs / width)).unsqueeze(-2)
    turned: Tensor = _Turned.apply(
        x_BLH.unflatten(-1, (num_heads, width)), scale * angle.cos(), scale * angle.sin()
    )
    return turned.flatten(-2)


class _Turned(torch.autograd.Function):
    """The halves of the last axis as pairs, each turned; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = x.dtype
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _Turned.apply(gradient, cos, -sin).to(ctx.dtype), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = x.chunk(2, dim=-1)
    found = torch.empty(x.shape, dtype=cos.dtype, device=x.device)
    first, second = found.chunk(2, dim=-1)
    torch.mul(one, cos, out=first).sub_(other * sin)
    torch.mul(other, cos, out=second).add_(one * sin)
    return found
