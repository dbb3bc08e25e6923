"""What a model is told of a position, inside one warp; Triton beside ``features``.

Shapes: B games, n rows, entries of R sets of n rows each.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import (
    LANES,
    flood,
    neighbours,
    no_suicide,
    popcount,
    row_above,
    row_below,
    rows_of_board,
)

_LARGE = tl.constexpr(5)  # as ``features.LARGE``


@triton.jit
def large_atari(own, atari, last):
    """The own chains in atari beside the point ``last``, if they are large; else none."""
    chains = flood(neighbours(last), own & atari)
    return tl.where(tl.sum(popcount(chains), 0) >= _LARGE, chains, 0)


@triton.jit
def write_board(board, entry, own, opponent, atari, taken, forbidden, SIZE: tl.constexpr):
    """Write one entry of the table ``board``; ``entry`` is its number, int64."""
    lane = tl.arange(0, LANES)
    rows = board + entry * (5 * SIZE) + lane
    inside = lane < SIZE
    tl.store(rows, own, mask=inside)
    tl.store(rows + SIZE, opponent, mask=inside)
    tl.store(rows + 2 * SIZE, atari, mask=inside)
    tl.store(rows + 3 * SIZE, taken, mask=inside)
    tl.store(rows + 4 * SIZE, forbidden, mask=inside)


@triton.jit
def write_landmarks(landmarks, entry, taken, forbidden, large, SIZE: tl.constexpr):
    """Write one entry of the table ``landmarks``; ``entry`` is its number, int64."""
    lane = tl.arange(0, LANES)
    rows = landmarks + entry * (3 * SIZE) + lane
    inside = lane < SIZE
    tl.store(rows, taken, mask=inside)
    tl.store(rows + SIZE, forbidden, mask=inside)
    tl.store(rows + 2 * SIZE, large, mask=inside)


@triton.jit
def features_kernel(
    own_rows,
    opponent_rows,
    atari_rows,
    legal_rows,
    move_numbers,
    passes,
    taken_sides,
    history,
    entries,
    max_moves,
    SIZE: tl.constexpr,
    SUICIDE: tl.constexpr,
    SINGLE: tl.constexpr,
    AS_LANDMARKS: tl.constexpr,
):
    """Write an entry of every game as it stands; see ``features.board_rows``, ``.landmark_rows``.

    Args:
        own_rows, opponent_rows, atari_rows, legal_rows: (B, n) int32.
        move_numbers, passes: (B,) int64.
        taken_sides: (B,) uint8.
        history: (B, max_moves) int16.
        entries: (B, R, n) int32, R = 3 AS_LANDMARKS, else 5.
        max_moves: plies of the longest game.
    """
    lane = tl.arange(0, LANES)
    inside = lane < SIZE
    game = tl.program_id(0).to(tl.int64)
    own = tl.load(own_rows + game * SIZE + lane, mask=inside, other=0)
    opponent = tl.load(opponent_rows + game * SIZE + lane, mask=inside, other=0)
    atari = tl.load(atari_rows + game * SIZE + lane, mask=inside, other=0)
    legal = tl.load(legal_rows + game * SIZE + lane, mask=inside, other=0)
    empty = rows_of_board(SIZE) & ~(own | opponent)

    ply = tl.load(move_numbers + game).to(tl.int32)
    token = tl.load(history + game * max_moves + ply - 1, mask=ply > 0, other=0).to(tl.int32)
    is_point = (ply > 0) & (token < SIZE * SIZE)
    row = token // SIZE
    last = tl.where((lane == row) & is_point, 1 << (token - row * SIZE), 0)
    sides = tl.load(taken_sides + game).to(tl.int32)
    seeds = tl.where((sides & 1) != 0, last << 1, 0) | tl.where((sides & 2) != 0, last >> 1, 0)
    seeds = seeds | tl.where((sides & 4) != 0, row_below(last), 0)
    seeds = seeds | tl.where((sides & 8) != 0, row_above(last), 0)
    taken = flood(seeds, empty)

    otherwise = empty
    if not SUICIDE:
        otherwise = no_suicide(own, opponent, atari, SIZE, SINGLE)
    goes_on = (tl.load(passes + game) < 2) & (ply < max_moves)
    forbidden = otherwise & ~tl.where(goes_on, legal, 0)
    if AS_LANDMARKS:
        large = large_atari(own, atari, last)
        write_landmarks(entries, game, taken, forbidden, large, SIZE)
    else:
        write_board(entries, game, own, opponent, atari, taken, forbidden, SIZE)
