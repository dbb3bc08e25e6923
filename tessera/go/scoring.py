"""Area score: stones and the empty regions that touch one colour only, or what is settled first."""

from __future__ import annotations

from torch import Tensor

from tessera.go.bitboard import flood, neighbours, popcount, row_mask
from tessera.go.rules import Rules
from tessera.go.settled import settled_rows


def areas(black: Tensor, white: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    """Each colour's area: its stones and the empty points from which only it can be reached.

    With ``rules.score`` "pass_alive" every point of a colour's pass-alive stones and territory is
    its own first, whatever stands there: a territory touches stones of its owner only, so that is
    the plain area of the board without the dead stones inside. No referee counts like this: sgfmill
    leaves all stones where they stand, and GNU Go judges by its reading which of them are dead.

    Source: Tromp-Taylor rules, "score"; for "pass_alive" KataGo's rules
    (lightvector.github.io/KataGo/rules.html), "if ScoringRule is Area" with SelfPlayOpts.

    Args:
        black: (n, B) row bitboards.
        white: (n, B) row bitboards.
        rules: how to count, and whether suicide is allowed.

    Returns:
        black's and white's area, each (n, B); a point is in at most one of them.
    """
    empty = ~(black | white) & row_mask(black.shape[0])
    reach_black = flood(neighbours(black), empty)
    reach_white = flood(neighbours(white), empty)
    black_area, white_area = black | reach_black & ~reach_white, white | reach_white & ~reach_black
    if rules.score == "area":
        return black_area, white_area
    settled = settled_rows(black, white, rules.suicide, "torch")
    return (
        black_area & ~settled.white | settled.black,
        white_area & ~settled.black | settled.white,
    )


def area_score(black: Tensor, white: Tensor, rules: Rules) -> Tensor:
    """Black's area minus white's minus komi; (B,) float32."""
    black_area, white_area = areas(black, white, rules)
    return (popcount(black_area) - popcount(white_area)).sum(0).float() - rules.komi
