"""Another player who has one colour of some of the games that are learned from.

Shapes: B games, K of them, the last ones, have a rival; P = n² points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.go.branching import copy_games, kind_of
from tessera.go.randomness import draw
from tessera.play.evaluator import Evaluator


class Rival:
    """Plays a policy without a search; nothing waits for the device, and all shapes stay.

    Its colour alternates by the game's number: black in those of odd ones.

    Args:
        evaluator: its policy; the weights may change between plies, in place.
        engine: the B games.
        num_games: K, at least 1.

    Attributes:
        is_there: () bool, on the device; False as long as nobody has the evaluator's weights.
    """

    def __init__(self, evaluator: Evaluator, engine: GPUGoEngine, num_games: int) -> None:
        self._evaluator = evaluator
        self._games = GPUGoEngine(num_games, *kind_of(engine))
        self._places = torch.arange(num_games, device=engine.device)
        self._slots = self._places + engine.batch_size - num_games
        slots = torch.arange(engine.batch_size, device=engine.device)
        self._is_among = slots >= engine.batch_size - num_games
        self.is_there = torch.zeros((), dtype=torch.bool, device=engine.device)

    def is_to_move(self, engine: GPUGoEngine, numbers: Tensor) -> Tensor:
        """(B,) bool, True where it is the rival's turn.

        Args:
            engine: the B games.
            numbers: (B,) int64, theirs.
        """
        return self.is_there & self._is_among & (engine.turn != (numbers & 1))

    def choose(
        self, engine: GPUGoEngine, allowed: Tensor, words: Tensor, is_drawn: Tensor, others: Tensor
    ) -> Tensor:
        """(B,) int64, its moves in the last K games and the others' in those before.

        Args:
            engine: the B games, of which nothing is changed.
            allowed: (B, P + 1) bool, the moves that are looked at.
            words: (B,) int64, 64 random bits for each game.
            is_drawn: (B,) bool, True where the move is drawn from the policy, not its likeliest.
            others: (B,) int64, moves.
        """
        copy_games(engine, self._slots, self._places, self._games)
        allowed, words, is_drawn = (
            part.index_select(0, self._slots) for part in (allowed, words, is_drawn)
        )
        scores = self._evaluator.evaluate(self._games).logits.masked_fill(~allowed, -torch.inf)
        drawn = draw(scores.softmax(1), allowed, words)
        return others.index_copy(0, self._slots, torch.where(is_drawn, drawn, scores.argmax(1)))
