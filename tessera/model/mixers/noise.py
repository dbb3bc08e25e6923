"""Noise without a generator: the same wherever and however often it is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = 32
_MASK = (1 << _BITS) - 1
_DRAWN = 23  # bits, of float32's 24
_WEYL = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F)  # odd; one for each axis, and the seed


def logistic_noise(seed: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Noise of the logistic distribution (shape) float32: the difference of two Gumbel draws.

    A hash of the seed and of each place, so a step that is computed again, replayed or resumed has
    the same noise, and no generator is moved on.

    Args:
        seed: () int64, on the device of the result; at least 0.
        shape: of the result.
    """
    mixed = seed * _WEYL[0]
    for axis, size in enumerate(shape):
        place = torch.arange(size, device=seed.device).view(-1, *(1,) * (2 - axis))
        mixed = _mixed((mixed + (place + 1) * _WEYL[axis + 1]) & _MASK)
    # No more bits than leave room for the half: neither 0 nor 1 is ever drawn.
    uniform = ((mixed >> (_BITS - _DRAWN)).float() + 0.5) / (1 << _DRAWN)
    return uniform.log() - torch.log1p(-uniform)


def _mixed(x: Tensor) -> Tensor:
    """A permutation of the whole numbers below 2³² in which every bit depends on every other."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return x ^ (x >> 15)
