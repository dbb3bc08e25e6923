"""Area score: stones, and the empty regions that touch stones of one colour only."""

from __future__ import annotations

from torch import Tensor

from tessera.go.bitboard import flood, neighbours, popcount, row_mask


def areas(black: Tensor, white: Tensor) -> tuple[Tensor, Tensor]:
    """Each colour's area: its stones and the empty points from which only it can be reached.

    Source: Tromp-Taylor rules, "score".

    Args:
        black: (n, B) row bitboards.
        white: (n, B) row bitboards.

    Returns:
        black's and white's area, each (n, B); a point is in at most one of them.
    """
    empty = ~(black | white) & row_mask(black.shape[0])
    reach_black = flood(neighbours(black), empty)
    reach_white = flood(neighbours(white), empty)
    return black | reach_black & ~reach_white, white | reach_white & ~reach_black


def area_score(black: Tensor, white: Tensor, komi: float) -> Tensor:
    """Black's area minus white's minus komi; (B,) float32."""
    black_area, white_area = areas(black, white)
    return (popcount(black_area) - popcount(white_area)).sum(0).float() - komi
