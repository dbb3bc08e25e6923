"""What both kernels of the gated delta rule do with a chunk of positions; all in float32.

Shapes: Q positions of a chunk (STEPS), N width of a key (KEYS), P of a block of values (VALUES).
"""

from __future__ import annotations

import triton
import triton.language as tl

# Added to the square of a length; that of ``tessera.model.scans.delta``.
_EPS = tl.constexpr(1e-6)


@triton.jit
def load_vectors(rows, row, at, length, column, width):
    """Vectors (Q, any) of the positions ``at``, zero beyond the game and beyond their width."""
    there = (at < length)[:, None] & (column < width)[None, :]
    return tl.load(rows + at[:, None] * row + column[None, :], mask=there, other=0.0).to(tl.float32)


@triton.jit
def store_vectors(rows, row, at, length, column, width, values):
    """Write what ``load_vectors`` would read."""
    there = (at < length)[:, None] & (column < width)[None, :]
    to = rows + at[:, None] * row + column[None, :]
    tl.store(to, values.to(rows.dtype.element_ty), mask=there)


@triton.jit
def inverse_length(vectors):
    """1 / the length of each of the vectors (Q, N)."""
    return tl.rsqrt(tl.sum(vectors * vectors, 1) + _EPS)


@triton.jit
def decay_between(fade, index):
    """What is left at a position (row) of what an earlier one (column) stored, and 0 elsewhere.

    Returns:
        (Q, Q), and the logarithms of what is left of what was there before the chunk, (Q,).
    """
    since = tl.cumsum(fade, 0)
    is_earlier = index[:, None] > index[None, :]
    gap = tl.where(is_earlier, since[:, None] - since[None, :], 0.0)
    return tl.where(is_earlier, tl.exp(gap), 0.0), since


@triton.jit
def sum_of_later(fade, index):
    """The sum of the logarithms of all later positions of the chunk, (Q,)."""
    return tl.sum(tl.where(index[None, :] > index[:, None], fade[None, :], 0.0), 1)


@triton.jit
def unit_triangular_inverse(strict, index, LEVELS: tl.constexpr, PRECISION: tl.constexpr):
    """The inverse of I + a strictly lower triangular matrix (Q, Q), with Q = 2 ** LEVELS.

    As in ``tessera.model.scans.delta``: blocks of twice the size out of two.
    """
    inverse = (index[:, None] == index[None, :]).to(tl.float32)
    for level in tl.static_range(LEVELS):
        row, column = index[:, None] >> level, index[None, :] >> level
        is_joint = (row == column + 1) & (row % 2 == 1)
        joint = tl.where(is_joint, strict, 0.0)
        if level == 0:
            inverse -= joint
        else:
            joined = tl.dot(inverse, joint, input_precision=PRECISION)
            inverse -= tl.dot(joined, inverse, input_precision=PRECISION)
    return inverse
