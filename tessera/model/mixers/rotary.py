"""Rotary positions: each pair of a head's numbers is turned by an angle that grows with the place.

Source: Su et al., "RoFormer" (arXiv:2104.09864), section 3.2, with the halves of a head as the
pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BASE = 10_000.0  # of the wave lengths, RoFormer's


def rotated(x_BLH: Tensor, place: Tensor, num_heads: int) -> Tensor:
    """Vectors (B, L, H), each head turned to its place; at least float32.

    Args:
        x_BLH: (B, L, H).
        place: (L,) or (B, L).
        num_heads: of an even width each.
    """
    width = x_BLH.shape[-1] // num_heads
    dtype = torch.promote_types(x_BLH.dtype, torch.float32)
    pairs = torch.arange(0, width, 2, device=place.device, dtype=dtype)
    # One angle for every head: (…, L, 1, P / 2).
    angle = (place[..., None] * _BASE ** (-pairs / width)).unsqueeze(-2)
    cos, sin = angle.cos(), angle.sin()
    one, other = x_BLH.to(dtype).unflatten(-1, (num_heads, width)).chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, other * cos + one * sin], -1).flatten(-2)
