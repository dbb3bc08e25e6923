"""A side whose move in a game follows from that game alone, whoever else is ready at the moment."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.go.branching import copies
from tessera.go.play import one_thread
from tessera.play.contestants import Contestant, ModelContestant, Seated


class Apart:
    """Each game of a side computed by itself, in a batch of one and on one thread.

    What a model says is rounded, and its last bits depend on the shape of its batch and on a game's
    row in it. Against an engine both depend on who has answered: so nothing is computed together.

    Args:
        side: of one game, which is copied for each.

    Attributes:
        name: the side's.
    """

    def __init__(self, side: ModelContestant | Seated) -> None:
        self.name, self._side = side.name, side
        self._sides: list[ModelContestant | Seated] = []

    def begin(self, engine: GPUGoEngine) -> None:
        """See ``Contestant``."""
        self._sides = [copy(self._side) for _ in range(engine.batch_size)]
        for at, side in enumerate(self._sides):
            side.begin(_only(engine, at))

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        """See ``Contestant``."""
        with one_thread():
            for at in (tokens != engine.vocabulary.pad_token).nonzero().flatten().tolist():
                self._sides[at].see(_only(engine, at), tokens[at : at + 1])

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        """See ``Contestant``."""
        chosen = torch.zeros_like(words)
        with one_thread():
            for at in is_mine.nonzero().flatten().tolist():
                one = slice(at, at + 1)
                chosen[one] = self._sides[at].moves(_only(engine, at), is_mine[one], words[one])
        return chosen


def steady(side: Contestant, device: torch.device) -> Contestant:
    """The side, its moves the same whoever is ready.

    On a CPU each game is computed by itself. Elsewhere all of them are, in batches of one shape: a
    GPU's kernels treat all rows of a shape alike.
    """
    if not (isinstance(side, ModelContestant) or (isinstance(side, Seated) and side.is_rounded)):
        return side
    if device.type == "cpu":
        return Apart(side)
    return side.whole() if isinstance(side, Seated) else side


def _only(engine: GPUGoEngine, game: int) -> GPUGoEngine:
    """An engine of a copy of this game."""
    return copies(engine, torch.tensor([game], device=engine.device))
