"""The design's line: least squares through logarithms, its statistics, and the trend of alpha."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tessera.commands.scaling.line import WINDOW, fit_line, fit_trend
from tessera.commands.student import incomplete_beta

TOKENS = [50.0, 100.0, 200.0, 400.0, 800.0]


def test_a_power_is_found() -> None:
    line = fit_line(TOKENS, [3.0 * n**-0.48 for n in TOKENS])
    assert line.alpha == pytest.approx(-0.48)
    assert math.exp(line.log_a) == pytest.approx(3.0)
    assert line.r_squared == pytest.approx(1.0)
    assert line.p == pytest.approx(0.0, abs=1e-12)
    assert line.standard_error == pytest.approx(0.0, abs=1e-9)
    assert line.at(1600) == pytest.approx(3.0 * 1600**-0.48)


def test_the_statistics_are_those_of_least_squares() -> None:
    x = np.log(TOKENS)
    y = np.array([1.0, 0.7, 0.75, 0.3, 0.2])
    line = fit_line(TOKENS, np.exp(y).tolist())
    slope, log_a = np.polyfit(x, y, 1)
    covariance = np.polyfit(x, y, 1, cov="unscaled")[1]
    rest = float(((y - slope * x - log_a) ** 2).sum())
    assert line.alpha == pytest.approx(slope)
    assert line.log_a == pytest.approx(log_a)
    assert line.standard_error == pytest.approx(math.sqrt(rest / 3 * covariance[0, 0]))
    assert line.r_squared == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert line.p is not None and line.standard_error is not None
    # Of Student's t with 3 degrees of freedom there is a closed form of the tails.
    t = abs(line.alpha) / line.standard_error / math.sqrt(3)
    assert line.p == pytest.approx(1 - 2 / math.pi * (math.atan(t) + t / (1 + t**2)))


@pytest.mark.parametrize(
    ("t", "freedom", "p"), [(12.7062, 1, 0.05), (2.7764, 4, 0.05), (4.0321, 5, 0.01)]
)
def test_p_is_that_of_the_tables(t: float, freedom: int, p: float) -> None:
    assert incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t**2)) == pytest.approx(p, 1e-4)


def test_tiny_chances_keep_their_digits() -> None:
    # I_x(a, b) is x^a / (a B(a, b)) for tiny x.
    x, a = 1e-12, 4.5
    beta = math.gamma(a) * math.gamma(0.5) / math.gamma(a + 0.5)
    assert incomplete_beta(a, 0.5, x) == pytest.approx(x**a / (a * beta), 1e-9)
    assert incomplete_beta(a, 0.5, 0.0) == 0.0
    assert incomplete_beta(a, 0.5, 1.0) == 1.0


def test_two_points_have_neither_p_nor_standard_error() -> None:
    line = fit_line([1, 10], [1.0, 0.5])
    assert line.alpha == pytest.approx(math.log10(0.5))
    assert line.p is None and line.standard_error is None


def rungs(alphas: list[float]) -> list[tuple[list[float], list[float]]]:
    """Token budgets that double, between which ln L falls with these slopes."""
    value, found = 0.0, [([100.0], [1.0])]
    for nth, alpha in enumerate(alphas, 1):
        value += alpha * math.log(2)
        found.append(([100.0 * 2**nth], [math.exp(value)]))
    return found


@pytest.mark.parametrize(
    ("alphas", "verdict"),
    [
        ([-0.40, -0.45, -0.45, -0.50], "improving"),
        ([-0.50, -0.45, -0.45, -0.40], "degrading"),
        ([-0.50, -0.50, -0.50, -0.495], "stable"),
        ([-0.50] * 6, "stable"),
    ],
)
def test_the_trend_is_the_last_window_against_the_first(alphas: list[float], verdict: str) -> None:
    trend = fit_trend(rungs(alphas))
    assert len(trend.windows) == len(alphas) + 1 - WINDOW + 1
    assert trend.windows[0][:2] == (100, 800)
    assert trend.verdict == verdict
    tokens, values = zip(*((n[0], value[0]) for n, value in rungs(alphas)), strict=True)
    assert trend.line == fit_line(tokens, values)
    assert trend.delta_alpha == pytest.approx(
        trend.windows[-1][2].alpha - trend.windows[0][2].alpha
    )


def test_what_the_design_measured_itself_is_degrading() -> None:
    # Alpha in its two windows was -0.478 and -0.399; the page said it improved.
    trend = fit_trend(rungs([-0.478, -0.478, -0.478, -0.215]))
    first, last = (line.alpha for _, _, line in trend.windows)
    assert first == pytest.approx(-0.478)
    assert last == pytest.approx(-0.399, abs=2e-3)
    assert trend.verdict == "degrading"


def test_one_window_has_no_trend() -> None:
    trend = fit_trend(rungs([-0.5, -0.4, -0.3]))
    assert len(trend.windows) == 1
    assert trend.delta_alpha is None and trend.verdict is None


def test_seeds_of_a_rung_are_points_of_their_own() -> None:
    one = fit_trend([([n], [n**-0.5]) for n in TOKENS])
    two = fit_trend([([n, n], [1.1 * n**-0.5, n**-0.5 / 1.1]) for n in TOKENS])
    assert two.line.alpha == pytest.approx(one.line.alpha)
    assert two.line.standard_error is not None and two.line.standard_error > 0.01
    assert len(two.windows) == len(one.windows) == 2
