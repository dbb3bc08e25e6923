"""Area score in Triton, one board in one warp; beside ``tessera.go.scoring``."""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import flood, neighbours, popcount, rows_of_board
from tessera.go.kernels.settled import pass_alive


@triton.jit
def area_difference(
    black, white, SIZE: tl.constexpr, PASS_ALIVE: tl.constexpr, SUICIDE: tl.constexpr
):
    """Black's area minus white's, and the two areas; see ``scoring.areas``."""
    empty = rows_of_board(SIZE) & ~(black | white)
    reach_black = flood(neighbours(black), empty)
    reach_white = flood(neighbours(white), empty)
    black_area = black | (reach_black & ~reach_white)
    white_area = white | (reach_white & ~reach_black)
    if PASS_ALIVE:
        # Twice the same code with the colours exchanged, so that it stands in the kernel once.
        for _ in range(2):
            stones, territory = pass_alive(black, white, SIZE, SUICIDE)
            settled = stones | territory
            black_area, white_area = white_area & ~settled, black_area | settled
            black, white = white, black
    return tl.sum(popcount(black_area) - popcount(white_area), 0), black_area, white_area
