"""A compact table of what was measured since the last one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tessera.monitor.metrics import CATEGORIES, METRICS

_WIDTH = 11  # of a column of numbers


class Summary:
    """Collects values and writes the table minimum, mean, maximum of each metric.

    Plain text without colour, so that it reads as well in a log file. Every metric of ``METRICS``
    is in it: with its figures, or under "absent" with the reason.
    """

    def __init__(self) -> None:
        # The least, the sum and the most of each metric, and of how many values.
        self._ranges: dict[str, tuple[float, float, float, int]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take newly measured values in."""
        for name, value in values.items():
            least, total, most, num = self._ranges.get(name, (value, 0.0, value, 0))
            # NumPy's keep NaN, which Python's would hide or not, depending on the order.
            least, most = np.minimum(least, value), np.maximum(most, value)
            self._ranges[name] = least, total + value, most, num + 1

    def table(self, title: str, why_absent: Mapping[str, str]) -> str:
        """The table; what was collected is forgotten, and the next one begins."""
        ranges, self._ranges = self._ranges, {}
        heads = "".join(f"{head:>{_WIDTH}}" for head in ("min", "mean", "max"))
        width = max(len(title), *(len(_label(name)) for name in METRICS))
        lines = [f"{title:{width}}{heads}"]
        for category in CATEGORIES:
            for name, metric in METRICS.items():
                if metric.category == category and name in ranges:
                    least, total, most, num = ranges[name]
                    figures = map(_number, (least, total / num, most))
                    row = "".join(f"{figure:>{_WIDTH}}" for figure in figures)
                    lines.append(f"{_label(name):{width}}{row}")
        by_reason: dict[str, list[str]] = {}
        for name in METRICS:
            if name in ranges:
                continue
            reason = why_absent.get(name, "not sampled since the last summary")
            by_reason.setdefault(reason, []).append(name)
        lines += [f"  absent: {', '.join(names)} ({why})" for why, names in by_reason.items()]
        return "\n".join(lines)


def _label(name: str) -> str:
    unit = METRICS[name].unit
    return f"  {name} ({unit})" if unit else f"  {name}"


def _number(value: float) -> str:
    """Four digits, but thousands as whole numbers."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
