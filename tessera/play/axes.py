"""Where numbers lie along the side of a chart, and which of them are written there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ROOM = 0.04  # of an axis beyond its first and last number
_LETTERS = ("", "k", "M", "G", "T", "P", "E")
_STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a chart.

    Args:
        low: the least number that has a place, which must be above 0 on a logarithmic axis.
        high: the largest one.
        is_log: whether equal factors are equal lengths.
        at: the numbers that are written, and how; round ones if there is none.
    """

    low: float
    high: float
    is_log: bool = False
    at: tuple[tuple[float, str], ...] = ()

    @classmethod
    def around(
        cls,
        numbers: Sequence[float],
        is_log: bool = False,
        at: tuple[tuple[float, str], ...] = (),
    ) -> Axis:
        """An axis with room for all of them; what a logarithm has no place for is at its edge.

        Raises:
            ValueError: if there is no number, or none above 0 for a logarithmic axis.
        """
        found = [math.log10(x) for x in numbers if x > 0] if is_log else list(numbers)
        if not found:
            raise ValueError("an axis needs a number that has a place on it.")
        low, high = min(found), max(found)
        if high - low < 1e-9:
            apart = 0.3 if is_log else max(abs(high), 1.0) / 2
            low, high = low - apart, high + apart
        more = _ROOM * (high - low)
        low, high = low - more, high + more
        return cls(10**low, 10**high, True, at) if is_log else cls(low, high, False, at)

    def part(self, number: float) -> float:
        """Where a number is along the axis, from 0 to 1; at an edge if it lies beyond it."""
        if self.is_log:
            if number <= 0:
                return 0.0
            number, low, high = (math.log10(x) for x in (number, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (number - low) / (high - low)))

    def ticks(self) -> list[tuple[float, str]]:
        """The numbers that are written, and how: those of ``at``, or some four to nine."""
        if self.at:
            return list(self.at)
        found = self._log_ticks() if self.is_log else _even_ticks(self.low, self.high)
        return [(number, short(number)) for number in found]

    def _log_ticks(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in _STEPS:
            found = [
                step * 10.0**power
                for power in range(first, last + 1)
                for step in steps
                if self.low <= step * 10.0**power <= self.high
            ]
            if len(found) >= 3:
                return found[:: math.ceil(len(found) / 9)]
        return [number for number in _even_ticks(self.low, self.high) if number > 0]


def short(number: float) -> str:
    """A number with few letters: 0.002, 15, 20k, 1.5M, 3P, 1e+21."""
    power = 0
    if abs(number) >= 1e3:
        power = min(len(_LETTERS) - 1, math.floor(math.log10(abs(number)) + 1e-9) // 3)
        number /= 10.0 ** (3 * power)
    return f"{number:.4g}{_LETTERS[power]}" if abs(number) < 1e3 else f"{number * 1e18:.3g}"


def _even_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(nth * step, 12) for nth in range(first, last + 1)]
