"""The design's scaling law, a straight line through logarithms: ln L = alpha · ln n + ln A.

Source: New-LLM's alpha scaling, least squares over the points of a window of four, and the trend of
alpha from the first window to the last. It knows no floor: L may be a loss, a perplexity (the
design's own) or an excess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.commands.student import incomplete_beta

WINDOW = 4  # rungs
_STABLE = 0.01  # alpha may change by this much


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line.

    Attributes:
        alpha: the slope, mostly negative.
        log_a: ln A, where the line meets n = 1.
        r_squared: the share of the variance that the line takes away; None if there is none.
        p: how likely a slope at least as steep would be if there were none (Student's t, both
            sides); None of two points.
        standard_error: of alpha; None of two points.
    """

    alpha: float
    log_a: float
    r_squared: float | None
    p: float | None
    standard_error: float | None

    def at(self, tokens: float) -> float:
        """L at so many tokens."""
        return math.exp(self.alpha * math.log(tokens) + self.log_a)


@dataclass(frozen=True, slots=True)
class Trend:
    """The line through all rungs, and those through windows of them.

    Attributes:
        line: through all points.
        windows: the tokens of each window's first and last rung, and its line.
    """

    line: Line
    windows: tuple[tuple[int, int, Line], ...]

    @property
    def delta_alpha(self) -> float | None:
        """The last window's alpha less the first one's; None of one window."""
        if len(self.windows) < 2:
            return None
        return self.windows[-1][2].alpha - self.windows[0][2].alpha

    @property
    def verdict(self) -> str | None:
        """Improving if alpha falls by more than 0.01, degrading if it rises by that, or stable."""
        delta = self.delta_alpha
        if delta is None:
            return None
        return "improving" if delta < -_STABLE else "degrading" if delta > _STABLE else "stable"


def fit_line(tokens: Sequence[float], values: Sequence[float]) -> Line:
    """The least squares line through ln tokens and ln values, of two different tokens at least."""
    x, y = np.log(np.asarray(tokens, float)), np.log(np.asarray(values, float))
    x_off, y_off = x - x.mean(), y - y.mean()
    across, up = float(x_off @ x_off), float(y_off @ y_off)
    alpha = float(x_off @ y_off) / across
    log_a = float(y.mean() - alpha * x.mean())
    left = y_off - alpha * x_off
    rest, freedom = float(left @ left), len(x) - 2
    unexplained = min(1.0, rest / up) if up > 0 else None
    return Line(
        alpha,
        log_a,
        None if unexplained is None else 1 - unexplained,
        # t² / (t² + ν) is R², so the tails of Student's t are this beta function.
        None
        if unexplained is None or freedom < 1
        else incomplete_beta(freedom / 2, 0.5, unexplained),
        None if freedom < 1 else math.sqrt(rest / freedom / across),
    )


def fit_trend(rungs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Trend:
    """The line through all rungs, and through each four that follow each other.

    Args:
        rungs: tokens and values of each rung's runs, the fewest tokens first.
    """

    def through(some: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Line:
        tokens, values = zip(*some, strict=True)
        return fit_line(np.concatenate(tokens).tolist(), np.concatenate(values).tolist())

    windows = []
    for first in range(len(rungs) - WINDOW + 1):
        some = rungs[first : first + WINDOW]
        windows.append((round(some[0][0][0]), round(some[-1][0][0]), through(some)))
    return Trend(through(rungs), tuple(windows))
