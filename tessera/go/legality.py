"""Looking moves up in the legal mask before they are played."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from tessera.go.engine import GPUGoEngine


class IllegalMoveError(ValueError):
    """A move that the rules forbid; the message names the game and the vertex."""


def check_moves(engine: GPUGoEngine, moves: Tensor) -> None:
    """Raise IllegalMoveError for the first game that goes on and whose move is illegal.

    Args:
        engine: the games; waits for their device.
        moves: (B,) int64, any values.
    """
    known = (moves >= 0) & (moves <= engine.vocabulary.pass_token)
    legal = engine.get_legal_mask().gather(1, (moves * known).unsqueeze(1)).squeeze(1)
    wrong = ~(engine.is_game_over() | known & legal)
    if bool(wrong.any()):
        game = int(wrong.nonzero()[0])
        move = int(moves[game])
        vertex = engine.vocabulary.vertex(move) if known[game] else f"token {move}"
        colour = ("black", "white")[int(engine.turn[game])]
        raise IllegalMoveError(f"game {game}: {vertex} is illegal for {colour}.")
