"""The map of every position of a whole game: a model's, or that of the player who played it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from tessera.go import GPUGoEngine, IllegalMoveError, Rules
from tessera.go.players import distribution, get_player
from tessera.play.map import PositionMap, position_map
from tessera.play.session import Session
from tessera.transfers import to_host


def maps_of_session(session: Session, moves: Sequence[int]) -> Iterator[PositionMap]:
    """What the session's model expects where it stands, and after each of these moves.

    Raises:
        IllegalMoveError: saying the move, and why it is illegal.
        ValueError: if what the model says is not finite.
    """
    yield position_map(session)
    for ply, move in enumerate(moves, 1):
        try:
            session.play(move)
        except IllegalMoveError as error:
            raise IllegalMoveError(f"move {ply}: {error}") from None
        yield position_map(session)


def maps_of_player(
    player: str, moves: Sequence[int], board_size: int, rules: Rules
) -> Iterator[PositionMap]:
    """The exact distribution that a built-in player drew each of its moves from.

    Args:
        player: its name.
        moves: legal ones, from the empty board.
        board_size: n.
        rules: of the game.
    """
    engine, chosen = GPUGoEngine(1, "cpu", board_size, rules), get_player(player)
    for ply, move in enumerate(moves):
        chances = distribution(chosen, engine)[0]
        black, white, _ = to_host(engine.boards[0], "games").long()
        legal = engine.get_legal_mask()[0]
        before = list(moves[:ply])
        yield PositionMap(black - white, ply % 2, before, chances, legal, 1.0)
        engine.play_batch(torch.tensor([move]))
