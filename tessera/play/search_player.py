"""A search as a player of thousands of games at once.

Shapes: B games.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tessera.go import Choice, GPUGoEngine
from tessera.play.evaluator import Evaluator
from tessera.play.search import GumbelSearch, Searched
from tessera.setting_errors import Problem, SettingError


class SearchPlayer:
    """Plays what a search finds; remembers nothing.

    Args:
        evaluator: of the search, see ``GumbelSearch``, where the other arguments stand too.
        num_simulations: positions that are evaluated for a move.
        num_considered: moves that are looked at, at most.
        temperature: scale of the Gumbel noise: 0 plays the best, 1 draws as the paper does.
        value_scale: how much a value weighs beside a logit.
        max_visit: as if a move had so many visits more.
        passes: free or last.
        first_pass: plies before which a pass is the last choice in any case.

    Attributes:
        name: what a record calls it.
        search: how it searches.
        newest: what the search of the newest ply found; from the first ``choose`` on.

    Raises:
        SettingError: if a setting is out of range.
    """

    newest: Searched

    def __init__(
        self,
        evaluator: Evaluator,
        num_simulations: int = 16,
        num_considered: int = 16,
        temperature: float = 0.0,
        value_scale: float = 1.0,
        max_visit: float = 50.0,
        passes: str = "free",
        first_pass: int = 0,
    ) -> None:
        try:
            self.search = GumbelSearch(
                evaluator,
                num_simulations,
                num_considered,
                value_scale,
                max_visit,
                temperature,
                passes,
                first_pass,
            )
        except SettingError as error:
            raise SettingError(*(_in_words(problem) for problem in error.args)) from error

    @property
    def name(self) -> str:
        """What a record calls it."""
        return f"search:{self.search.num_simulations}"

    def begin(self, engine: GPUGoEngine) -> int:
        """Make room for the search; see ``Player``."""
        return self.search.prepare(engine)

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        """Search every game; see ``Player``.

        The probabilities are the improved policy's, which the noise and the search choose from.
        """
        self.newest = found = self.search.run(engine, words)
        weights = found.action_weights
        logs = weights.log()
        # 0 · log 0 is 0.
        entropies = -(weights * torch.where(weights > 0, logs, 0.0)).sum(1)
        log_probs = logs.gather(1, found.action.unsqueeze(1)).squeeze(1)
        return Choice(found.action, log_probs, entropies)

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        """Nothing is remembered; see ``Player``."""


def _in_words(problem: Problem) -> Problem:
    """The search's noise by the name that it has here."""
    return replace(problem, name="temperature") if problem.name == "noise" else problem
