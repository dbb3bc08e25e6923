"""Intervals hold the truth as often as they say; the rest is known of cases made for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tessera.commands.compare.report_statistics import (
    PerGame,
    mean,
    mean_excess,
    paired_difference,
    reaches,
    sensitivity,
    speed_up,
)
from tessera.commands.student import t_chance, t_quantile

GAMES = 60


def runs(
    generator: np.random.Generator, level: float, seeds: int, hardness: np.ndarray, noise: float
) -> list[PerGame]:
    """Seeds that differ by 0.02, on games of which some are harder for everyone."""
    tokens = np.full(GAMES, 10.0)
    own = generator.normal(0, noise, GAMES)  # games that are harder for this row alone
    return [
        PerGame((level + generator.normal(0, 0.02) + hardness + own) * tokens, tokens)
        for _ in range(seeds)
    ]


@pytest.mark.parametrize(
    ("chance", "freedom", "expected"),
    [
        *((0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 4, 2.77645), (0.975, 30, 2.04227)),
        *((0.95, 3, 2.35336), (0.995, 10, 3.16927), (0.975, math.inf, 1.95996)),
        *((0.025, 2, -4.30265), (0.975, 1e9, 1.95996)),
    ],
)
def test_quantiles_are_those_of_the_tables(chance: float, freedom: float, expected: float) -> None:
    assert t_quantile(chance, freedom) == pytest.approx(expected, rel=1e-5)
    assert t_chance(expected, freedom) == pytest.approx(chance, abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_intervals_of_differences_hold_the_truth_19_times_in_20(noise: float) -> None:
    generator = np.random.default_rng(5)
    held, trials, lengths = 0, 1000, []
    for _ in range(trials):
        hardness = generator.normal(0, 0.5, GAMES)
        row = runs(generator, 0.30, 3, hardness, noise)
        found = paired_difference(row, runs(generator, 0.25, 3, hardness, noise))
        assert found is not None and found.has_seeds
        held += found.low <= 0.05 <= found.high
        lengths.append(found.high - found.low)
    assert 0.935 < held / trials < 0.985
    # Games that are hard for both do not count: unpaired it would be some 0.36 long.
    assert np.median(lengths) < 0.15


def test_a_difference_is_of_the_same_games_alone() -> None:
    generator = np.random.default_rng(1)
    hardness = generator.normal(0, 0.5, GAMES)
    one, two = (runs(generator, level, 1, hardness, 0.1) for level in (0.3, 0.2))
    found = paired_difference(one, two)
    assert found is not None and not found.has_seeds and found.low < found.value < found.high
    assert found.value == pytest.approx(one[0].excess - two[0].excess)
    # Of one seed nobody knows how far seeds are apart: then games alone count, and it is said.
    three = runs(generator, 0.2, 3, hardness, 0.0)
    three = [PerGame(run.excess_G + 10 * nth, run.tokens_G) for nth, run in enumerate(three)]
    single = paired_difference(one, three)
    assert single is not None and not single.has_seeds and single.high - single.low < 1
    same = paired_difference(one, one)
    assert same is not None and (same.low, same.value, same.high) == (0, 0, 0)
    other = PerGame(one[0].excess_G, one[0].tokens_G + 1)
    assert paired_difference(one, [other]) is None
    assert paired_difference([], two) is None and paired_difference(one, []) is None


def test_long_games_count_by_their_predictions() -> None:
    tokens = np.array([1.0, 3.0])
    run = PerGame(np.array([0.4, 0.6]), tokens)
    assert run.excess == pytest.approx(0.25)
    found = paired_difference([run], [PerGame(np.zeros(2), tokens)])
    assert found is not None and found.value == pytest.approx(0.25)
    left = np.array([0.4 - 0.25, 0.6 - 0.75])
    reach = t_quantile(0.975, 1) * math.sqrt(2 * (left**2).sum()) / 4
    assert (found.low, found.high) == pytest.approx((0.25 - reach, 0.25 + reach))


def test_the_standard_error_is_over_seeds_and_games() -> None:
    generator = np.random.default_rng(2)
    hardness = generator.normal(0, 0.5, GAMES)
    three = runs(generator, 0.3, 3, hardness, 0.0)
    values = [run.excess for run in three]
    alone, whole = mean(values), mean_excess(values, three)
    assert alone is not None and whole is not None and alone.error is not None
    assert whole.error is not None and whole.value == alone.value
    assert alone.spread == pytest.approx(np.std(values, ddof=1))
    games = math.sqrt(whole.error**2 - alone.error**2)
    assert games == pytest.approx(np.std(hardness, ddof=1) / math.sqrt(GAMES), rel=1e-6)
    assert mean([]) is None and mean([0.5]) is not None
    single = mean_excess([0.5], [])
    assert single is not None and (single.spread, single.error) == (None, None)


def power(factor: float, exponent: float = 0.5) -> list[tuple[float, float]]:
    """A curve on which logarithm over logarithm is a straight line."""
    return [(x, (factor * x) ** -exponent) for x in (10.0, 35.0, 100.0, 400.0)]


def test_a_row_that_learns_three_times_as_fast_has_a_speed_up_of_three() -> None:
    found = speed_up([power(3), power(3)], [power(1), power(1)])
    assert found is not None and found.interval is not None
    assert found.interval.value == pytest.approx(3) and (found.reached, found.seeds) == (2, 2)
    assert found.interval.low == pytest.approx(3) and not found.is_at_least
    some = speed_up([power(2), power(4.5)], [power(0.8), power(1.25)])
    assert some is not None and some.interval is not None
    assert some.interval.value == pytest.approx(3, rel=0.02)
    assert some.interval.low < 1 < 3 < some.interval.high
    # The best seed of the baseline ends lower than the worst of the row ever comes.
    near = speed_up([power(0.9), power(4)], [power(0.5), power(1.1)])
    assert near is not None and near.interval is not None and near.reached == 2
    assert near.interval.low == near.interval.value == near.interval.high > 1
    assert not near.interval.has_seeds
    single = speed_up([power(3)], [power(1)])
    assert single is not None and single.interval is not None and not single.interval.has_seeds


def test_what_is_not_reached_has_no_speed_up() -> None:
    slow = speed_up([power(0.5), power(2)], [power(1)])
    assert slow is not None and slow.interval is None and (slow.reached, slow.seeds) == (1, 2)
    assert speed_up([[]], [power(1)]) is None and speed_up([power(1)], []) is None
    early = speed_up([power(1000)], [power(1)])
    assert early is not None and early.is_at_least and early.interval is not None
    assert early.interval.value == pytest.approx(40)
    # One seed that was there at the first look is enough for the factor to be larger.
    some = speed_up([power(1000), power(1.2)], [power(1)])
    assert some is not None and some.is_at_least


def test_a_curve_reaches_a_target_where_it_first_crosses_it() -> None:
    assert reaches([(1, 0.4), (4, 0.1), (5, 0.3), (9, 0.05)], 0.2) == pytest.approx(2)
    assert reaches([(1, 0.4), (4, 0.1)], 0.1) == pytest.approx(4)
    # An excess below 0 is noise, and has no logarithm.
    assert reaches([(1, 0.1), (100, -0.1)], 0.0) == pytest.approx(10)
    assert reaches([(1, 0.1), (100, -0.1)], 0.05) == pytest.approx(100**0.25)
    assert reaches([(1, 0.1)], 0.0) is None


def test_sensitivity_is_what_a_step_beside_the_best_rate_costs() -> None:
    found = sensitivity([(1e-3, 0.2), (1e-4, 0.5), (3e-4, 0.1), (1e-2, None)])
    assert found is not None and found.lr == 3e-4 and not found.is_at_edge
    assert (found.below, found.above) == pytest.approx((0.4, 0.1))
    assert found.has_failed == (False, False)
    beside = sensitivity([(1e-3, 0.2), (3e-3, None), (3e-4, 0.3)])
    assert beside is not None and beside.has_failed == (False, True) and not beside.is_at_edge
    assert beside.above is None
    edge = sensitivity([(1e-3, 0.2), (3e-3, 0.1)])
    assert edge is not None and edge.is_at_edge and edge.above is None
    assert edge.has_failed == (False, False)
    seeds = sensitivity([(1e-3, 0.2), (1e-3, 0.4), (3e-3, 0.25), (3e-3, 0.25)])
    assert seeds is not None and seeds.lr == 3e-3
    # The lucky seed of a rate that fails otherwise is no best rate.
    lucky = sensitivity([(1e-3, 0.2), (3e-3, 0.1), (3e-3, None)])
    assert lucky is not None and lucky.lr == 1e-3 and lucky.has_failed == (False, True)
    assert sensitivity([(1e-3, None)]) is None
