"""The picture of a calibration: how often moves were played, by the probability they were given.

A disc is a bin, the bar through it what its frequency may be in the long run with 95 % certainty,
the slanting line where all would lie if the probabilities were true. Numbers say how many forecasts
a bin holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tessera.play.shapes import INK, PAPER, Box, Colour, Disc, Drawing, Line, Shape, Words
from tessera.training.calibration import Bin, Calibration

_WIDTH, _HEIGHT = 600, 420  # of a plot with its words, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 58, 74  # around a plot
_TITLE, _WORDS, _NUMBERS = 17, 14, 12  # heights of the fonts
_GRID: Colour = (222, 218, 210)
_TRUE: Colour = (140, 134, 126)
_BAR: Colour = (96, 90, 84)
_FOUND: Colour = (0, 92, 190)  # blue and grey are told apart by every kind of eye

_MOVE_TICKS = (0.00001, 0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
_TOP_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_LEAST, _MOST = 0.000003, 0.9999  # where the axis of the log-odds begins and ends


def _log_odds(chance: float) -> float:
    chance = min(max(chance, 1e-12), 1 - 1e-12)
    return math.log(chance / (1 - chance))


@dataclass(frozen=True, slots=True)
class _Plot:
    """One plot: its bins, and where a probability is along both of its axes.

    Attributes:
        bins: what is drawn.
        title: above it.
        ticks: probabilities that are written at the axes.
        scale: of a probability, a length.
        ends: the scale at the beginning and the end of an axis.
        top: of everything, in pixels.
    """

    bins: Sequence[Bin]
    title: tuple[str, str]
    ticks: Sequence[float]
    scale: Callable[[float], float]
    ends: tuple[float, float]
    top: float

    def shapes(self) -> Iterator[Shape]:
        """Everything, from the paper up."""
        left, right = _LEFT, _WIDTH - _RIGHT
        high, low = self.top + _TOP, self.top + _HEIGHT - _BOTTOM
        yield Words(left, self.top + 20, self.title[0], _TITLE, INK, "start")
        yield Words(left, self.top + 42, self.title[1], _WORDS, INK, "start")
        for tick in self.ticks:
            x, y = self._x(tick), self._y(tick)
            yield Line(x, high, x, low, 1, _GRID)
            yield Line(left, y, right, y, 1, _GRID)
            yield Words(x, low + 13, _percent(tick), _NUMBERS)
            yield Words(left - 6, y, _percent(tick), _NUMBERS, INK, "end")
        yield Line(left, low, right, high, 2, _TRUE)
        yield Line(left, low, right, low, 1)
        yield Line(left, high, left, low, 1)
        for nth, each in enumerate(self.bins):
            x = self._x(each.mean)
            ends = [self._y(end) for end in each.interval]
            yield Line(x, ends[0], x, ends[1], 2, _BAR)
            for end in ends:
                yield Line(x - 4, end, x + 4, end, 2, _BAR)
            yield Disc(x, self._y(each.frequency), 4.5, _FOUND, PAPER, 1)
            # Neighbours' numbers would touch each other in one row.
            yield Words(x, low + 34 + 14 * (nth % 2), _count(each.forecasts), _NUMBERS)
        yield Words(left - 6, low + 41, "forecasts", _NUMBERS, INK, "end")
        yield Words((left + right) / 2, low + 65, "probability that was given", _WORDS)
        yield Words(left + 8, high + 12, "how often it was played", _WORDS, INK, "start")

    def _part(self, chance: float) -> float:
        """Where it is along an axis, 0 to 1."""
        first, last = self.ends
        return min(1.0, max(0.0, (self.scale(chance) - first) / (last - first)))

    def _x(self, chance: float) -> float:
        return _LEFT + self._part(chance) * (_WIDTH - _RIGHT - _LEFT)

    def _y(self, chance: float) -> float:
        bottom = self.top + _HEIGHT - _BOTTOM
        return bottom - self._part(chance) * (_HEIGHT - _BOTTOM - _TOP)


def calibration_drawing(calibration: Calibration) -> Drawing:
    """All legal moves above, on axes of log-odds; below the likeliest move of each position."""
    found = calibration.metrics()
    ends = (_log_odds(_LEAST), _log_odds(_MOST))
    title = ("Every legal move", _told(found, "move"))
    every = _Plot(calibration.moves, title, _MOVE_TICKS, _log_odds, ends, 0)
    title = ("The likeliest move", _told(found, "top"))
    top = _Plot(calibration.tops, title, _TOP_TICKS, float, (0.0, 1.0), _HEIGHT)
    paper = Box(0, 0, _WIDTH, 2 * _HEIGHT, PAPER)
    told = (
        f"How often moves were played, by their probability, in {calibration.positions:,} positions"
    )
    return Drawing(_WIDTH, 2 * _HEIGHT, told, [paper, *every.shapes(), *top.shapes()])


def _told(found: dict[str, float], name: str) -> str:
    error, noise = (100 * found[f"{name}_ece{which}"] for which in ("", "_noise"))
    return f"{name}_ece {error:.2f} %; true probabilities would have {noise:.2f} % by chance"


def _percent(chance: float) -> str:
    return f"{round(100 * chance, 4):g} %"


def _count(number: int) -> str:
    """With no more than four letters: 940, 9.4k, 94k, 0.9M, 94M."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= 0.95 * unit:
            return f"{number / unit:.{0 if number >= 9.5 * unit else 1}f}{letter}"
    return str(number)
