"""Rows of a game's positions, loaded and stored some at a time as a tile (STEPS, columns).

A tile is one load for each thread, and one exchange between threads when it is taken apart: row by
row both would be paid at every position. STEPS is 2, 4 or 8.

What is loaded stays in the memory's dtype: a conversion would wait for the load, and belongs
where the time until then has been used.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.model.kernels.arithmetic import FROZEN, inside


@triton.jit
def load_tile(rows, stride, at, column, num_columns, length, STEPS: tl.constexpr, other=0.0):
    """The rows ``at`` to ``at + STEPS - 1``, ``other`` where the game has none."""
    row = at + tl.arange(0, STEPS)
    mask = (row < length)[:, None] & (column < num_columns)[None, :]
    place = row[:, None] * stride + column[None, :]
    return tl.load(rows + place, mask=mask, other=other)


@triton.jit
def load_step_sizes(
    rows,
    stride,
    pads,
    at,
    column,
    num_columns,
    length,
    STEPS: tl.constexpr,
    HAS_PADS: tl.constexpr,
):
    """A tile of raw step sizes and, if HAS_PADS, what says of its rows that they are PAD."""
    row = at + tl.arange(0, STEPS)
    values = load_tile(rows, stride, at, column, num_columns, length, STEPS, FROZEN)
    is_pad = row  # which nobody looks at
    if HAS_PADS:
        is_pad = tl.load(pads + row, mask=row < length, other=0)
    return values, is_pad


@triton.jit
def step_sizes(loaded, HAS_PADS: tl.constexpr):
    """These as float32, such that the state freezes at PAD and beyond the game's end."""
    values = loaded[0].to(tl.float32)
    if HAS_PADS:
        values = tl.where((loaded[1] != 0)[:, None], FROZEN, values)
    return values


@triton.jit
def load_rows(rows, stride, at, column, num_columns, length, STEPS: tl.constexpr):
    """The same rows one by one."""
    found = ()
    for step in tl.static_range(STEPS):
        mask = inside(column, num_columns, at + step, length)
        found += (tl.load(rows + (at + step) * stride + column, mask=mask, other=0.0),)
    return found


@triton.jit
def store_tile(rows, stride, at, column, num_columns, length, tile, STEPS: tl.constexpr):
    """Write a tile to the rows ``at`` to ``at + STEPS - 1``, in their dtype."""
    row = at + tl.arange(0, STEPS)
    mask = (row < length)[:, None] & (column < num_columns)[None, :]
    place = row[:, None] * stride + column[None, :]
    tl.store(rows + place, tile.to(rows.dtype.element_ty), mask=mask)


@triton.jit
def split_tile(tile, STEPS: tl.constexpr):
    """The rows of a tile, or of (STEPS, columns, …), first row first."""
    tl.static_assert(STEPS == 2 or STEPS == 4 or STEPS == 8)
    width: tl.constexpr = tile.shape[1]
    turned = tl.trans(tile)
    if STEPS == 2:
        first, second = tl.split(turned)
        return (first, second)
    elif STEPS == 4:
        even, odd = tl.split(tl.reshape(turned, [width, 2, 2]))
        r0, r2 = tl.split(even)
        r1, r3 = tl.split(odd)
        return (r0, r1, r2, r3)
    else:
        even, odd = tl.split(tl.reshape(turned, [width, 4, 2]))
        by_0, by_2 = tl.split(tl.reshape(even, [width, 2, 2]))
        by_1, by_3 = tl.split(tl.reshape(odd, [width, 2, 2]))
        r0, r4 = tl.split(by_0)
        r1, r5 = tl.split(by_1)
        r2, r6 = tl.split(by_2)
        r3, r7 = tl.split(by_3)
        return (r0, r1, r2, r3, r4, r5, r6, r7)


@triton.jit
def join_rows(rows, STEPS: tl.constexpr):
    """The tile of these rows."""
    tl.static_assert(STEPS == 2 or STEPS == 4 or STEPS == 8)
    width: tl.constexpr = rows[0].shape[0]
    if STEPS == 2:
        turned = tl.join(rows[0], rows[1])
    elif STEPS == 4:
        turned = tl.join(tl.join(rows[0], rows[2]), tl.join(rows[1], rows[3]))
    else:
        even = tl.join(tl.join(rows[0], rows[4]), tl.join(rows[2], rows[6]))
        odd = tl.join(tl.join(rows[1], rows[5]), tl.join(rows[3], rows[7]))
        turned = tl.join(tl.reshape(even, [width, 4]), tl.reshape(odd, [width, 4]))
    return tl.trans(tl.reshape(turned, [width, STEPS]))
