"""Loads and functions that the kernels share; all arithmetic is in float32."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)

# softplus turns this raw step size into exactly 0, which freezes the state.
FROZEN = tl.constexpr(-1e4)


@triton.jit
def load_float(pointers, is_there, other, WHOLE: tl.constexpr):
    """What the pointers point to, as float32; ``other`` where ``is_there`` is False.

    WHOLE promises that it never is, which saves a register and an instruction for each load.
    """
    values = tl.load(pointers) if WHOLE else tl.load(pointers, mask=is_there, other=other)
    return values.to(tl.float32)


@triton.jit
def inside(index, count, at, length):
    """True for indices below ``count``, and for none at a position beyond the game's length."""
    return index < tl.where(at < length, count, 0)


@triton.jit
def _reciprocal(value):
    """1 / value to 1e-6 of itself for positive values, infinity included.

    The square of the hardware's inverse root is a quarter of the instructions of a division.
    """
    root = tl.rsqrt(value)
    return root * root


@triton.jit
def sigmoid(value):
    """1 / (1 + exp(-value)), which goes to 0 and 1 without a NaN."""
    return _reciprocal(1 + tl.exp2(-value * LOG2_E))


@triton.jit
def softplus(value):
    """log(1 + exp(value)) to float32's relative precision, also where it is tiny.

    A trained step size may be 1e-3, where the hardware's logarithm of 1.001 has lost four digits.
    So log(1 + e) = 2 artanh(e / (2 + e)), whose series converges fast: its argument is below 1/3.
    """
    e = tl.exp2(-tl.abs(value) * LOG2_E)
    s = e * _reciprocal(2 + e)
    square = s * s
    series = 1 / 15
    series = series * square + 1 / 13
    series = series * square + 1 / 11
    series = series * square + 1 / 9
    series = series * square + 1 / 7
    series = series * square + 1 / 5
    series = series * square + 1 / 3
    return tl.maximum(value, 0) + 2 * (s + s * square * series)
