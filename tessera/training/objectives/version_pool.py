"""Past versions of a player, what they won of each other, and the ratings that follow.

A version is called by the number of batches that it had learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from tessera.go.randomness import VERSION, below, random_words
from tessera.model import GameModel
from tessera.play.match_table import PlayedGame
from tessera.play.ratings import rate_counts
from tessera.training.checkpoint_parts import (
    TOO_MANY,
    ContentError,
    check_counts,
    check_weights,
    shown,
)

RULES = 0  # what the rule-based player is called; no version has learned from so few batches
_KEPT = {"numbers", "weights", "results"}


class VersionPool:
    """At most so many past versions, from all of a run, on its device, and their results.

    Of versions that have left the pool the results are forgotten too, so that the ratings cost the
    same however long a run is.

    Args:
        most: versions that are kept; 0 for none.

    Attributes:
        most: as given.
        numbers: of the versions that are there, rising.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.numbers: list[int] = []
        self._weights: list[dict[str, Tensor]] = []
        # Games and black's points of them, by black's number and white's.
        self._results: dict[tuple[int, int], tuple[int, float]] = {}

    # Who is there.

    @torch.no_grad()
    def add(self, number: int, player: GameModel) -> None:
        """Let a version in, unless it is there; if that is one too many, another goes.

        It is one whose neighbours are nearest to each other, so neither the first nor the newest.
        """
        if number in self.numbers:
            return
        self.numbers.append(number)
        self._weights.append({name: own.clone() for name, own in player.state_dict().items()})
        self._thin()

    def _thin(self) -> None:
        while len(self.numbers) > self.most:
            inside = range(1, len(self.numbers) - 1)
            gone = min(inside, key=self._gap_at, default=0)
            del self.numbers[gone], self._weights[gone]
        there = {RULES, *self.numbers}
        self._results = {pair: own for pair, own in self._results.items() if there.issuperset(pair)}

    def _gap_at(self, place: int) -> int:
        return self.numbers[place + 1] - self.numbers[place - 1]

    def load(self, number: int, model: GameModel) -> None:
        """Let a model have the weights of a version, in place."""
        model.load_state_dict(self._weights[self.numbers.index(number)])

    def drawn(self, seed: int) -> int:
        """A version of those that are there, a hash of the seed and of the newest one's number."""
        return self._drawn(self.numbers, seed, self.numbers[-1])

    def opponents(self, number: int) -> list[int]:
        """Whom a version meets in a match: the newest of the others, and one of the earlier ones.

        Which one is a hash of the version's number.
        """
        others = [other for other in self.numbers if other != number]
        earlier = others[:-1]
        return others[-1:] + ([self._drawn(earlier, RULES, number)] if earlier else [])

    @staticmethod
    def _drawn(numbers: list[int], seed: int, at: int) -> int:
        word = random_words(seed, torch.tensor(at), 0, VERSION)
        return numbers[int(below(word, torch.tensor(len(numbers))))]

    # What they won.

    def record(self, number: int, other: int, games: Iterable[PlayedGame]) -> None:
        """Add the games of a match.

        Args:
            number: the first side.
            other: the second one, which may be ``RULES``.
            games: of both.
        """
        for game in games:
            pair = (number, other) if game.fixture.first_is_black else (other, number)
            played, points = self._results.get(pair, (0, 0.0))
            self._results[pair] = played + 1, points + game.black_points

    def has_met(self, number: int) -> bool:
        """Whether there is a result of this version."""
        return any(number in pair for pair in self._results)

    def rating(self, number: int) -> float:
        """The likeliest rating of a version, in Elo over the rule-based player, by all results.

        Beside the games of each two who met stands a drawn one, half of it with either colour: so
        one who won all has a rating too, and no game makes it leap.

        Args:
            number: of a version that met somebody; everybody must have met the rule-based player.
        """
        players = sorted({RULES, *(player for pair in self._results for player in pair)})
        place = {player: nth for nth, player in enumerate(players)}
        counts: dict[tuple[int, int], tuple[float, float]] = {}
        for one, other in self._results:
            for pair in ((one, other), (other, one)):
                played, points = self._results.get(pair, (0, 0.0))
                counts[place[pair[0]], place[pair[1]]] = played + 0.5, points + 0.25
        found = rate_counts(len(players), counts)
        return found.difference(place[number], place[RULES])[0]

    # What is kept.

    def saved(self) -> dict[str, Any]:
        """Everything, as whole numbers, numbers and tensors; nothing before there is anything."""
        if not self.numbers and not self._results:
            return {}
        results = [[*pair, *own] for pair, own in self._results.items()]
        return {"numbers": list(self.numbers), "weights": list(self._weights), "results": results}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any], player: GameModel) -> None:
        """Go on from what ``saved`` returned.

        Args:
            state: of ``saved``.
            player: a model like those that were kept, on the device where they are to be.
        """
        like = player.state_dict()
        self.numbers = list(state.get("numbers", []))
        self._weights = [
            {name: torch.empty_like(own).copy_(weights[name]) for name, own in like.items()}
            for weights in state.get("weights", [])
        ]
        self._results = {
            (black, white): (played, points)
            for black, white, played, points in state.get("results", [])
        }
        if len(self.numbers) > self.most:
            self._thin()


def check_pool(state: Any, expected: Mapping[str, Tensor]) -> None:
    """Raise ContentError unless a value is what a pool returned as ``saved``.

    Args:
        state: anything.
        expected: the weights of a model like those that are kept.
    """
    if not isinstance(state, dict) or set(state) != _KEPT:
        raise ContentError(f"objective pool must hold {', '.join(sorted(_KEPT))}")
    for name, value in state.items():
        if not isinstance(value, list):
            raise ContentError(f"objective pool {name} must be a list, got {shown(value)}")
    numbers, weights = state["numbers"], state["weights"]
    for number in numbers:
        check_counts("objective pool numbers", number, RULES + 1)
    if numbers != sorted(set(numbers)):
        raise ContentError(f"objective pool numbers must rise, got {shown(numbers)}")
    if len(weights) != len(numbers):
        told = f"{len(numbers)} versions, got {len(weights)}"
        raise ContentError(f"objective pool weights must be those of {told}")
    for number, held in zip(numbers, weights, strict=True):
        check_weights(f"objective pool weights {number}", held, expected)
    for result in state["results"]:
        if not _is_result(result):
            must = "black, white, their games and black's points"
            raise ContentError(f"objective pool results must be {must}, got {shown(result)}")
    pairs = {frozenset(result[:2]) for result in state["results"]}
    for player in sorted({player for pair in pairs for player in pair} - {RULES}):
        if {player, RULES} not in pairs:
            must = "of who also met the rule-based player"
            raise ContentError(f"objective pool results must be {must}, got {player} who has not")


def _is_result(value: Any) -> bool:
    if not isinstance(value, list) or [type(part) for part in value] != [int, int, int, float]:
        return False
    black, white, played, points = value
    is_known = min(black, white) >= RULES and black != white
    return is_known and 0 < played < TOO_MANY and 0 <= points <= played
