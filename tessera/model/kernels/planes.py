"""Planes of a board out of its row bitboards; beside ``tessera.model.features.planes``.

A set of points is an int32 block of 32 lanes: bit c of lane r is the point in row r, column c, and
lanes beyond the board hold 0. One warp makes the planes of one board.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LANES = tl.constexpr(32)


@triton.jit
def _spread(rows, full):
    """The points of a set and those beside them."""
    lane = tl.arange(0, _LANES)
    above = tl.gather(rows, (lane + 31) & 31, 0)
    below = tl.gather(rows, (lane + 1) & 31, 0)
    return (rows | (rows << 1) | (rows >> 1) | above | below) & full


@triton.jit
def _bits(rows, row, column):
    """Whether points, one a lane, are in a set: 0 or 1."""
    return (tl.gather(rows, row, 0) >> column) & 1


@triton.jit
def planes_kernel(
    sets, tokens, planes, SIZE: tl.constexpr, REACH: tl.constexpr, WIDTH: tl.constexpr
):
    """Write what ``board_planes`` gives, and planes of zeros behind it.

    Programs: one for each board.

    Args:
        sets: (T, 5, N) int32: own, opponent, atari, taken, forbidden.
        tokens: (T,) int64.
        planes: (T, N, N, WIDTH), any float dtype of at most 32 bits, written.
        SIZE: N.
        REACH: steps along the lines within which a stone makes a claim.
        WIDTH: a power of two, at least 9.
    """
    board = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, _LANES)
    is_row = lane < SIZE
    full = tl.where(is_row, (1 << SIZE) - 1, 0)
    rows = sets + board * 5 * SIZE + lane
    own = tl.load(rows, mask=is_row, other=0)
    opponent = tl.load(rows + SIZE, mask=is_row, other=0)
    atari = tl.load(rows + 2 * SIZE, mask=is_row, other=0)
    taken = tl.load(rows + 3 * SIZE, mask=is_row, other=0)
    forbidden = tl.load(rows + 4 * SIZE, mask=is_row, other=0)
    token = tl.load(tokens + board)

    differences = ((own[:, None] >> lane[None, :]) & 1) - ((opponent[:, None] >> lane[None, :]) & 1)
    ahead = tl.sum(tl.sum(differences, 1), 0).to(tl.float32)
    # Rounded before it is divided, as the plain form does.
    ahead = ahead.to(planes.dtype.element_ty).to(tl.float32) / SIZE

    own_reach = own
    opponent_reach = opponent
    own_claim = own & ~opponent
    opponent_claim = opponent & ~own
    for _ in tl.static_range(REACH):
        own_reach = _spread(own_reach, full)
        opponent_reach = _spread(opponent_reach, full)
        own_claim |= own_reach & ~opponent_reach
        opponent_claim |= opponent_reach & ~own_reach

    plane = tl.arange(0, WIDTH)
    for start in tl.static_range(0, SIZE * SIZE, 32):
        point = start + lane
        row = point // SIZE
        column = point % SIZE
        is_own = _bits(own, row, column)
        is_opponent = _bits(opponent, row, column)
        # A point's value in plane p is bit p less bit p + 16.
        word = is_own | (is_opponent << 1) | (_bits(atari, row, column) << 2)
        word |= (_bits(taken, row, column) << 3) | (_bits(forbidden, row, column) << 4)
        word |= (((is_own | is_opponent) ^ 1) << 5) | ((is_own & is_opponent) << 21)
        word |= (token == point).to(tl.int32) << 6
        word |= (_bits(own_claim, row, column) << 7) | (_bits(opponent_claim, row, column) << 23)
        words = word[:, None]
        values = ((words >> plane[None, :]) & 1) - ((words >> (plane[None, :] + 16)) & 1)
        values = tl.where((plane == 8)[None, :], ahead, values.to(tl.float32))
        place = (board * (SIZE * SIZE) + point)[:, None] * WIDTH + plane[None, :]
        is_there = (point < SIZE * SIZE)[:, None] & (plane < WIDTH)[None, :]
        tl.store(planes + place, values.to(planes.dtype.element_ty), mask=is_there)
