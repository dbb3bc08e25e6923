"""Scaling laws with a floor, loss = L∞ + A/N^alpha + B/D^beta, and how good a floor is.

Everywhere else L∞ is a guess: fixed, or fitted with the rest. Here it is known, because the player
of the games says how likely each of its moves was. So a floor can be graded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tessera.commands.scaling.powers import Array, Powers, fit_powers
from tessera.commands.scaling.runs_file import Row, Run

KNOWN, FREE = "known", "free"
_LEAST_SIZES = 3  # or alpha would be that of a curve through two points
_DELTA = 0.1  # of the logarithm of an excess
_DELTA_OF_LOSS = 1e-3  # of that of a loss, Chinchilla's
_TAILS = (2.5, 97.5)  # percentiles
_RIGHT = 0.01  # of the least excess: how far a floor may be off

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a fit without the largest rung says of a run in it.

    Attributes:
        parameters: of the run.
        tokens: of the run.
        measured: its excess, the mean over its seeds.
        predicted: the fit's.
        interval: of the prediction, 95 %; None without a bootstrap that has draws to tell apart.
    """

    parameters: int
    tokens: int
    measured: float
    predicted: float
    interval: Interval | None

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True)
class Law:
    """One fit.

    Attributes:
        floor: known, free or the number that was given, as it was given.
        l_infinity: in nats; fitted if the floor is free.
        truth: the loss of the player itself.
        a, alpha: of parameters; 0 where all models have as many.
        b, beta: of tokens.
        intervals: of these by their names, 95 % of the bootstrap; none without one that has draws
            to tell apart.
        rms: root of the mean square of ln(predicted excess / measured excess), from the known floor
            on; None if a prediction lies below that.
        is_at_edge: whether an exponent is as small or as large as any that was tried.
        held_out: the largest rung, predicted; nothing where too few rungs are left.
    """

    floor: str
    l_infinity: float
    truth: float
    a: float
    alpha: float
    b: float
    beta: float
    intervals: dict[str, Interval]
    rms: float | None
    is_at_edge: bool
    held_out: tuple[HeldOut, ...]
    least_excess: float

    def loss_at(self, parameters: float, tokens: float) -> float:
        """The loss in nats that the law says."""
        of_size = self.a * parameters**-self.alpha
        return float(self.l_infinity + of_size + self.b * tokens**-self.beta)

    @property
    def off(self) -> float:
        """How much too high the floor is, in nats."""
        return self.l_infinity - self.truth

    @property
    def grade(self) -> str:
        """What the floor is worth, in words."""
        if self.floor == KNOWN:
            return "exact"
        if abs(self.off) <= _RIGHT * self.least_excess:
            return "right"
        words = f"{abs(self.off):.4f} nats too {'high' if self.off > 0 else 'low'}"
        interval = self.intervals.get("l_infinity")
        if interval is not None:
            holds = interval[0] <= self.truth <= interval[1]
            words += f"; its interval {'holds' if holds else 'misses'} the truth"
        return words


def groups(row: Row) -> Iterator[tuple[Run, ...]]:
    """The runs that are fitted together: all of three sizes or more, or else each size alone."""
    sizes = row.sizes
    if len(sizes) >= _LEAST_SIZES:
        yield row.runs
        return
    for size in sizes:
        yield tuple(run for run in row.runs if run.parameters == size)


def fit_law(
    runs: Sequence[Run], truth: float, floor: str, replicates: int = 0, seed: int = 0
) -> Law:
    """The law of these runs above this floor.

    Args:
        runs: a group's.
        truth: the loss of the player itself.
        floor: known, free or a number below every loss.
        replicates: of the bootstrap over whole runs; 0 for no intervals.
        seed: of the bootstrap: the same draws each time.
    """
    fitted = _Fitted(runs, truth, floor, replicates, seed)
    powers = fitted.powers
    l_infinity = fitted.base + powers.constant
    found = {"l_infinity": l_infinity, "b": powers.b, "beta": powers.beta}
    if fitted.has_sizes:
        found |= {"a": powers.a, "alpha": powers.alpha}
    if floor != FREE:
        del found["l_infinity"]
    measured = np.array([run.excess_nats for run in runs])
    predicted = fitted.excess(runs)[0]
    rms = None
    if (predicted > 0).all():
        rms = float(np.sqrt((np.log(predicted / measured) ** 2).mean()))
    return Law(
        floor,
        float(l_infinity[0]),
        truth,
        float(powers.a[0]),
        float(powers.alpha[0]),
        float(powers.b[0]),
        float(powers.beta[0]),
        {name: _interval(each) for name, each in found.items()} if fitted.has_draws else {},
        rms,
        powers.is_at_edge(),
        tuple(_held_out(runs, truth, floor, replicates, seed)),
        float(measured.min()),
    )


class _Fitted:
    """The fit to runs as they are, and to as many resamplings of them as are asked for."""

    def __init__(
        self, runs: Sequence[Run], truth: float, floor: str, replicates: int, seed: int
    ) -> None:
        self.truth = truth
        self.has_sizes = len({run.parameters for run in runs}) >= _LEAST_SIZES
        is_free = floor == FREE
        self.base = 0.0 if is_free else truth if floor == KNOWN else float(floor)
        above = [x.excess_nats if floor == KNOWN else x.loss - self.base for x in runs]
        parameters, tokens = _places(runs)
        counts = _counts(runs, 2 + is_free, replicates, seed)
        # Three runs at three budgets, all needed for a free floor, are one draw again and again.
        self.has_draws = len(np.unique(counts[1:], axis=0)) > 1
        self.powers: Powers = fit_powers(
            parameters if self.has_sizes else None,
            tokens,
            np.array(above),
            counts,
            is_free,
            _DELTA_OF_LOSS if is_free else _DELTA,
        )

    def excess(self, runs: Sequence[Run]) -> Array:
        """What the fits say of runs: (1 + replicates, runs), in nats above the true floor."""
        return self.base + self.powers.at(*_places(runs)) - self.truth


def _places(runs: Sequence[Run]) -> tuple[Array, Array]:
    return np.array([float(x.parameters) for x in runs]), np.array([float(x.tokens) for x in runs])


def _counts(runs: Sequence[Run], least: int, replicates: int, seed: int) -> Array:
    """How often each run counts: once, and then as often as it was drawn, (1 + replicates, N).

    A draw with fewer than ``least`` token budgets, or sizes if there are several, fits everything
    and is drawn again.
    """
    kinds = [np.unique([run.tokens for run in runs], return_inverse=True)[1]]
    wanted = [min(least, kinds[0].max() + 1)]
    sizes = np.unique([run.parameters for run in runs], return_inverse=True)[1]
    if sizes.max() > 0:
        kinds.append(sizes)
        wanted.append(min(2, sizes.max() + 1))
    draw = np.random.default_rng(seed)
    counts = [np.ones(len(runs))]
    while len(counts) <= replicates:
        drawn = draw.integers(len(runs), size=len(runs))
        if all(len(set(kind[drawn])) >= few for kind, few in zip(kinds, wanted, strict=True)):
            counts.append(np.bincount(drawn, minlength=len(runs)).astype(float))
    return np.array(counts)


def _held_out(
    runs: Sequence[Run], truth: float, floor: str, replicates: int, seed: int
) -> Iterator[HeldOut]:
    """The runs of the most tokens, as a fit to the others predicts them; seeds are one."""
    most = max(run.tokens for run in runs) / 1.02
    kept = [run for run in runs if run.tokens <= most]
    left = [run for run in runs if run.tokens > most]
    fitted = _Fitted(kept, truth, floor, replicates, seed)
    for size in sorted({run.parameters for run in left}):
        same = [run for run in left if run.parameters == size]
        predicted = fitted.excess(same).mean(1)
        yield HeldOut(
            size,
            round(float(np.mean([run.tokens for run in same]))),
            float(np.mean([run.excess_nats for run in same])),
            float(predicted[0]),
            _interval(predicted) if fitted.has_draws else None,
        )


def _interval(values: Array) -> Interval:
    low, high = np.percentile(values[1:], _TAILS)
    return float(low), float(high)
