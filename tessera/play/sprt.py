"""A sequential test on pairs of games: it goes on until one of two hypotheses is decided for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.setting_errors import SettingError, number, problems_of

_POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # a side's share of a pair's points
_LEAST_COUNT = 1e-3  # stands for a share that no pair had yet
_HALVINGS = 64

_ELO = number("a number from -4000 to 4000", lambda x: -4000 <= x <= 4000)
_ERROR = number("more than 0 and less than 0.5", lambda x: 0 < x < 0.5)


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Whether the first side is ``elo1`` points stronger than the second, or only ``elo0``.

    Pairs are openings played with both colours, and are looked at in the order of their numbers,
    whichever is over first: short games are no fair sample of all.

    Args:
        elo0: of the hypothesis H0, in Elo.
        elo1: of H1, more than ``elo0``.
        alpha: how often H1 may be decided for where H0 is true.
        beta: how often H0 may be where H1 is.

    Raises:
        SettingError: for numbers out of range.

    Source: Wald 1945; the ratio of the likelihoods, each at its maximum given the mean score, over
    the five results of a pair (pentanomial), is Van den Bergh's for fishtest.
    """

    elo0: float
    elo1: float
    alpha: float = 0.05
    beta: float = 0.05

    def __post_init__(self) -> None:
        checks = {"elo0": _ELO, "elo1": _ELO, "alpha": _ERROR, "beta": _ERROR}
        problems = problems_of(self, checks)
        if not problems:
            more = number(f"more than elo0, {self.elo0:g}", lambda x: x > self.elo0)
            problems = problems_of(self, {"elo1": more})
        if problems:
            raise SettingError(*problems)

    @property
    def bounds(self) -> tuple[float, float]:
        """At which log-likelihood ratio H0, and at which H1, is decided for."""
        low = math.log(self.beta / (1 - self.alpha))
        return low, math.log((1 - self.beta) / self.alpha)

    def ratio(self, pairs: Sequence[int]) -> float:
        """The log-likelihood ratio, in nats, of pairs by the points that the first side had.

        Args:
            pairs: how many had 0, ½, 1, 1½ and 2 points.
        """
        if not any(pairs):
            return 0.0
        counts = [max(count, _LEAST_COUNT) for count in pairs]
        total = sum(counts)
        shares = [count / total for count in counts]
        means = [1 / (1 + 10 ** (-elo / 400)) for elo in (self.elo0, self.elo1)]
        zero, one = ((mean, _tilt(shares, mean)) for mean in means)
        return sum(
            count * (math.log1p(zero[1] * (each - zero[0])) - math.log1p(one[1] * (each - one[0])))
            for count, each in zip(counts, _POINTS, strict=True)
        )

    def decision(self, pairs: Sequence[int]) -> str | None:
        """``H0`` or ``H1``; None as long as neither is decided for."""
        low, high = self.bounds
        ratio = self.ratio(pairs)
        return "H0" if ratio <= low else "H1" if ratio >= high else None


def _tilt(shares: Sequence[float], mean: float) -> float:
    """The number t for which the shares / (1 + t (points - mean)) have that mean.

    That is the likeliest distribution with this mean. t is where a falling function crosses zero.
    """
    low, high = -1 / (1 - mean), 1 / mean
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rest = sum(
            share * (each - mean) / (1 + middle * (each - mean))
            for share, each in zip(shares, _POINTS, strict=True)
        )
        low, high = (middle, high) if rest > 0 else (low, middle)
    return (low + high) / 2
