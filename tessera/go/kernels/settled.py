"""Settled points in Triton, one warp for a colour of a board; beside ``tessera.go.settled``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.board import (
    LANES,
    first_row,
    flood,
    lowest_point,
    neighbours,
    popcount,
    rows_of_board,
)


@triton.jit
def pass_alive(own, opponent, SIZE: tl.constexpr, SUICIDE: tl.constexpr):
    """One colour's pass-alive stones and its territory, see ``settled.pass_alive``."""
    not_own = rows_of_board(SIZE) & ~own
    empty = not_own & ~opponent
    regions = flood(empty, not_own)
    needed = empty
    if SUICIDE:
        needed = regions
    small = regions & ~flood(needed & ~neighbours(own), regions)
    alive = flood(neighbours(small), own)
    changed = tl.max(alive, 0)
    while changed != 0:
        healthy = small & ~flood(neighbours(own & ~alive), small)
        left = alive
        kept = tl.zeros_like(alive)
        row = first_row(left)
        while row < LANES:
            chain = flood(lowest_point(left, row), left)
            left = left & ~chain
            vital = healthy & ~flood(needed & ~neighbours(chain), healthy)
            # Of no region at all the first point is the empty set.
            region = flood(lowest_point(vital, first_row(vital)), vital)
            if tl.max(vital ^ region, 0) != 0:
                kept = kept | chain
            row = first_row(left)
        changed = tl.max(alive ^ kept, 0)
        alive = kept

    enclosed = flood(neighbours(alive), regions) & ~flood(neighbours(own & ~alive), regions)
    inner = enclosed & ~neighbours(own)
    row = first_row(inner)
    while row < LANES:
        region = flood(lowest_point(inner, row), enclosed)
        if tl.sum(popcount(region & inner), 0) > 1:
            enclosed = enclosed & ~region
        inner = inner & ~region
        row = first_row(inner)
    return alive, enclosed


@triton.jit
def settled_points(own, opponent, SIZE: tl.constexpr, SUICIDE: tl.constexpr):
    """Every point that is settled for one of the two colours."""
    settled = tl.zeros_like(own)
    # Twice the same code with the colours exchanged, so that it stands in the kernel once.
    for _ in range(2):
        stones, territory = pass_alive(own, opponent, SIZE, SUICIDE)
        settled = settled | stones | territory
        own, opponent = opponent, own
    return settled


@triton.jit
def settled_kernel(colour_rows, settled_rows, SIZE: tl.constexpr, SUICIDE: tl.constexpr):
    """Write the settled points of one colour of one board.

    Args:
        colour_rows: (2, B, n) int32, black's and white's stones.
        settled_rows: (4, B, n) int32, written: pass-alive black and white stones, black's and
            white's territory.
        games: B.
    """
    lane = tl.arange(0, LANES)
    colour = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * SIZE + lane
    plane = tl.num_programs(0).to(tl.int64) * SIZE
    on_board = lane < SIZE
    own = tl.load(colour_rows + colour * plane + at, mask=on_board, other=0)
    opponent = tl.load(colour_rows + (1 - colour) * plane + at, mask=on_board, other=0)
    stones, territory = pass_alive(own, opponent, SIZE, SUICIDE)
    tl.store(settled_rows + colour * plane + at, stones, mask=on_board)
    tl.store(settled_rows + (colour + 2) * plane + at, territory, mask=on_board)


def pass_alive_of_both(black: Tensor, white: Tensor, suicide: bool) -> tuple[Tensor, ...]:
    """Black's and white's pass-alive stones, then black's and white's territory; each (n, B).

    Neither waits for the device nor looks at a value, so it may be captured in a CUDA graph.

    Args:
        black: (n, B) row bitboards.
        white: (n, B) row bitboards.
        suicide: whether it is allowed.
    """
    size, games = black.shape
    colours = torch.stack([black.t(), white.t()])
    found = colours.new_empty(4, games, size)
    with current(black.device):
        settled_kernel[(games, 2)](
            colours,
            found,
            SIZE=size,
            SUICIDE=bool(suicide),
            num_warps=1,
            enable_fp_fusion=True,
        )
    return tuple(plane.t() for plane in found)
