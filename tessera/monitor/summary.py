"""A compact table of what was measured since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tessera.monitor.metrics import CATEGORIES, METRICS

_WIDTH = 11  # of a column of numbers


@dataclass(slots=True)
class _Range:
    """What is remembered of one metric."""

    least: float
    total: float
    most: float
    num: int = 1

    def add(self, value: float) -> None:
        # NaN stays: min and max alone would hide it or not, depending on their order.
        self.least = value if value != value else min(self.least, value)
        self.most = value if value != value else max(self.most, value)
        self.total += value
        self.num += 1


class Summary:
    """Collects values and writes the table minimum, mean, maximum of each metric.

    Plain text without colour, so that it reads as well in a log file. Every metric of ``METRICS``
    is in it: with its figures, or under "absent" with the reason.
    """

    def __init__(self) -> None:
        self._ranges: dict[str, _Range] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take newly measured values in."""
        for name, value in values.items():
            known = self._ranges.get(name)
            if known is None:
                self._ranges[name] = _Range(value, value, value)
            else:
                known.add(value)

    def table(self, title: str, why_absent: Mapping[str, str]) -> str:
        """The table; what was collected is forgotten, and the next one begins."""
        ranges, self._ranges = self._ranges, {}
        heads = "".join(f"{head:>{_WIDTH}}" for head in ("min", "mean", "max"))
        width = max(len(title), *(len(_label(name)) for name in METRICS))
        lines = [f"{title:{width}}{heads}"]
        for category in CATEGORIES:
            for name, metric in METRICS.items():
                if metric.category == category and name in ranges:
                    lines.append(f"{_label(name):{width}}{_figures(ranges[name])}")
        return "\n".join([*lines, *_absent(ranges, why_absent)])


def _label(name: str) -> str:
    unit = METRICS[name].unit
    return f"  {name} ({unit})" if unit else f"  {name}"


def _figures(seen: _Range) -> str:
    values = (seen.least, seen.total / seen.num, seen.most)
    return "".join(f"{_number(value):>{_WIDTH}}" for value in values)


def _number(value: float) -> str:
    """Four digits, but thousands as whole numbers."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def _absent(measured: Mapping[str, _Range], why_absent: Mapping[str, str]) -> list[str]:
    """One line for every reason why metrics are missing."""
    by_reason: dict[str, list[str]] = {}
    for name in METRICS:
        if name not in measured:
            reason = why_absent.get(name, "not sampled since the last summary")
            by_reason.setdefault(reason, []).append(name)
    return [f"  absent: {', '.join(names)} ({reason})" for reason, names in by_reason.items()]
