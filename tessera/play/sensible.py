"""Moves that a player with some sense considers, so that games neither end at once nor never.

Shapes: B games, P = n² points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.go.bitboard import as_moves
from tessera.go.shapes import border, true_eyes


def sensible_moves(engine: GPUGoEngine) -> Tensor:
    """(B, P + 1) bool, the moves worth considering; at least one in every game.

    A legal point is, unless it fills an own eye that cannot be made false or lies where the other
    player's stones and territory are settled. A pass is where no such point is left, or where the
    game, counted as it stands, is won: one who is behind plays on, so two passes never end a game
    that is yet to be played, and one who is ahead need not fill his own area.
    """
    position = engine.position
    line = border(engine.board_size, engine.device)
    points = engine.legal_rows() & ~true_eyes(position.own, position.opponent, line)
    if engine.rules.capture != "single":
        settled = engine.settled_points()
        points = points & ~torch.where(engine.turn == 0, settled.white, settled.black)
    moves = as_moves(points)
    colour = 1 - 2 * engine.turn
    moves[:, -1] = (engine.score() * colour > 0) | (points == 0).all(0)
    return moves
