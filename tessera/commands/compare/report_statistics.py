"""What runs say of rows: means, spreads, paired differences, speed-ups, sensitivity.

An interval is one of 95 %, of Student's t with the degrees of freedom of Welch and Satterthwaite,
over two things at once: the seeds of each row, which are independent draws, and the test games,
which are the same for all rows. It is a formula, not a draw: the same runs give the same interval.
Resampling three seeds instead would give intervals that are too short (it knows 10 combinations).

Shape suffixes: S seeds, G games.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tessera.commands.student import t_quantile

Numbers = NDArray[np.float64]
_CERTAINTY = 0.95


@dataclass(frozen=True, slots=True)
class PerGame:
    """One run on the test games.

    Attributes:
        excess_G: the excess in nats, summed over the game's predictions.
        tokens_G: the predictions.
    """

    excess_G: Numbers
    tokens_G: Numbers

    @property
    def excess(self) -> float:
        """In nats per prediction, over all games."""
        return float(self.excess_G.sum() / self.tokens_G.sum())


@dataclass(frozen=True, slots=True)
class Mean:
    """A figure of several seeds.

    Attributes:
        value: their mean.
        spread: their standard deviation; None of one.
        error: standard error of the mean; None if it is not known.
    """

    value: float
    spread: float | None = None
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and where the truth lies, with 95 % certainty.

    Attributes:
        value: the estimate.
        low: the lower end.
        high: the upper end.
        has_seeds: whether the interval is over seeds too; over games alone if a row has one seed.
    """

    value: float
    low: float
    high: float
    has_seeds: bool = True


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """How many times sooner than the baseline a row has the excess that the baseline ends with.

    Attributes:
        interval: of the factor; None if not every seed of the row comes to that excess. Where no
            interval is known, its ends are the value and ``has_seeds`` is False.
        reached: how many of the row's seeds come to the mean excess of the baseline's.
        seeds: of the row.
        is_at_least: whether it was there at the first look, so that the factor may be larger.
    """

    interval: Interval | None
    reached: int
    seeds: int
    is_at_least: bool = False


def mean(values: Sequence[float]) -> Mean | None:
    """The mean and the spread, with the standard error of seeds alone; None of none."""
    if not values:
        return None
    if len(values) == 1:
        return Mean(values[0])
    spread = float(np.std(values, ddof=1))
    return Mean(float(np.mean(values)), spread, spread / math.sqrt(len(values)))


def mean_excess(values: Sequence[float], games: Sequence[PerGame]) -> Mean | None:
    """Mean excess, spread over seeds, and a standard error over seeds and games.

    Args:
        values: excess of each seed's run.
        games: of the same runs, if that is known, or nothing.
    """
    found = mean(values)
    if found is None or not games or not _are_same(games):
        return found
    seeds = (found.error or 0.0) ** 2
    return Mean(found.value, found.spread, math.sqrt(seeds + _games_variance(games, ())))


def paired_difference(row: Sequence[PerGame], baseline: Sequence[PerGame]) -> Interval | None:
    """Mean excess of the row less that of the baseline, in nats, game by game.

    Args:
        row: of each seed.
        baseline: of each seed; both on the same games in the same order.

    Returns:
        None if one of them has no run, or the games are others.
    """
    if not row or not baseline or not _are_same([*row, *baseline]):
        return None
    parts, value = [], 0.0
    for sign, runs in ((1, row), (-1, baseline)):
        values = [run.excess for run in runs]
        value += sign * float(np.mean(values))
        if len(runs) > 1:
            parts.append((float(np.var(values, ddof=1)) / len(runs), len(runs) - 1))
    has_seeds = len(parts) == 2
    if not has_seeds:
        parts = []
    num_games = len(row[0].tokens_G)
    if num_games > 1:
        parts.append((_games_variance(row, baseline), num_games - 1))
    reach = _reach(parts)
    return None if reach is None else Interval(value, value - reach, value + reach, has_seeds)


def speed_up(
    row: Sequence[Sequence[tuple[float, float]]], baseline: Sequence[Sequence[tuple[float, float]]]
) -> SpeedUp | None:
    """How much sooner the row's curves come to the last excess of the baseline's.

    Between two points of a curve logarithm over logarithm is a straight line. The interval is over
    the seeds of both rows: of the mean logarithm of the factor of all pairs of seeds. It is unknown
    if a row has one seed, or a seed of the row never comes to what one of the baseline's ends with.

    Args:
        row: of each seed a curve: (tokens or seconds, excess), from the first to the last.
        baseline: likewise.

    Returns:
        None if a curve has no point.
    """
    if not row or not baseline or not all(row) or not all(baseline):
        return None
    ends = [curve[-1] for curve in baseline]
    target = float(np.mean([excess for _, excess in ends]))
    amount = float(np.mean([math.log(amount) for amount, _ in ends]))
    places = [place for curve in row if (place := reaches(curve, target)) is not None]
    if len(places) < len(row):
        return SpeedUp(None, len(places), len(row))
    value = amount - float(np.mean([math.log(place) for place in places]))
    reach = _speed_up_reach(row, ends)
    low, middle, high = (math.exp(x) for x in (value - (reach or 0), value, value + (reach or 0)))
    is_first = any(place == curve[0][0] for place, curve in zip(places, row, strict=True))
    interval = Interval(middle, low, high, has_seeds=reach is not None)
    return SpeedUp(interval, len(places), len(row), is_first)


def _speed_up_reach(
    row: Sequence[Sequence[tuple[float, float]]], ends: Sequence[tuple[float, float]]
) -> float | None:
    """How far the interval of the logarithm reaches; None if a pair of seeds has no factor."""
    if len(row) < 2 or len(ends) < 2:
        return None
    logarithms = np.zeros((len(row), len(ends)))
    for i, curve in enumerate(row):
        for j, (amount, excess) in enumerate(ends):
            place = reaches(curve, excess)
            if place is None:
                return None
            logarithms[i, j] = math.log(amount / place)
    means = (logarithms.mean(1), logarithms.mean(0))
    return _reach([(float(np.var(each, ddof=1)) / len(each), len(each) - 1) for each in means])


def reaches(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Where a curve is first as low as the target; None if it never is."""
    for nth, (x, y) in enumerate(curve):
        if y > target:
            continue
        if nth == 0:
            return x
        before, above = curve[nth - 1]
        if y > 0:
            part = math.log(above / target) / math.log(above / y)
        else:
            part = (above - target) / (above - y)
        return before * (x / before) ** part if before > 0 else before + part * (x - before)
    return None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How the learning rate matters.

    Attributes:
        lr: the best of the grid.
        below: excess one step below it less that at it, in nats; None if that was not tried or has
            no excess.
        above: likewise, one step above.
        has_failed: whether the run one step below, and the one above, has failed.
        is_at_edge: whether the best one was the smallest or the largest that was tried.
    """

    lr: float
    below: float | None
    above: float | None
    has_failed: tuple[bool, bool]
    is_at_edge: bool


def sensitivity(tried: Sequence[tuple[float, float | None]]) -> Sensitivity | None:
    """What a grid of learning rates says.

    Args:
        tried: each with its excess; None for a run that has failed.

    Returns:
        None if no run has an excess.
    """
    by_rate: dict[float, list[float | None]] = {}
    for lr, excess in tried:
        by_rate.setdefault(lr, []).append(excess)
    rates = sorted(by_rate)
    means: list[float | None] = []
    for lr in rates:
        values = [value for value in by_rate[lr] if value is not None]
        means.append(float(np.mean(values)) if len(values) == len(by_rate[lr]) else None)
    found = [(value, nth) for nth, value in enumerate(means) if value is not None]
    if not found:
        return None
    best, at = min(found)
    lost: list[float | None] = []
    failed: list[bool] = []
    for nth in (at - 1, at + 1):
        is_tried = 0 <= nth < len(rates)
        value = means[nth] if is_tried else None
        lost.append(None if value is None else value - best)
        failed.append(is_tried and value is None)
    is_at_edge = at in (0, len(rates) - 1)
    return Sensitivity(rates[at], lost[0], lost[1], (failed[0], failed[1]), is_at_edge)


def _reach(parts: Sequence[tuple[float, float]]) -> float | None:
    """How far the interval reaches: of variances of the mean and their degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if not parts:
        return None
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    return t_quantile(0.5 + _CERTAINTY / 2, freedom) * math.sqrt(variance)


def _games_variance(row: Sequence[PerGame], baseline: Sequence[PerGame]) -> float:
    """Variance of the mean excess (or difference) over other games; 0 of one game.

    Of the ratio of two sums, excess and predictions of a game, by the delta method.
    """
    tokens_G = row[0].tokens_G
    excess_G = np.mean([run.excess_G for run in row], axis=0)
    if baseline:
        excess_G = excess_G - np.mean([run.excess_G for run in baseline], axis=0)
    games = len(tokens_G)
    if games < 2:
        return 0.0
    left_G = excess_G - excess_G.sum() / tokens_G.sum() * tokens_G
    return float(games / (games - 1) * (left_G**2).sum() / tokens_G.sum() ** 2)


def _are_same(runs: Sequence[PerGame]) -> bool:
    """Whether all are of the same games, as far as their lengths tell."""
    first = runs[0].tokens_G
    return first.sum() > 0 and all(np.array_equal(run.tokens_G, first) for run in runs)
