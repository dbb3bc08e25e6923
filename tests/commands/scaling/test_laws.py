"""Laws above a floor: known exponents are found, intervals cover them, wrong floors are graded."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.commands.scaling.laws import FREE, KNOWN, Law, _counts, fit_law
from tessera.commands.scaling.powers import fit_powers, non_negative
from tessera.commands.scaling.runs_file import Run
from tests.commands.scaling.synthetic import FLOOR, SIZES, TOKENS, runs


def law(some: list[Run], floor: str, replicates: int = 0) -> Law:
    return fit_law(some, FLOOR, floor, replicates)


@pytest.mark.parametrize("beta", [0.05, 0.3, 0.85, 2.0])
@pytest.mark.parametrize("floor", [KNOWN, FREE])
def test_the_power_of_tokens_is_found(floor: str, beta: float) -> None:
    b = 0.1 * 1e7**beta
    found = law(runs(b, beta), floor)
    assert found.beta == pytest.approx(beta, 1e-3)
    assert found.b == pytest.approx(b, 0.01)
    assert found.l_infinity == pytest.approx(FLOOR, abs=2e-3)
    assert found.rms is not None and found.rms < 5e-3
    assert not found.is_at_edge
    assert found.loss_at(10**6, 1e9) == pytest.approx(FLOOR + b * 1e9**-beta, 1e-3)


@pytest.mark.parametrize("floor", [KNOWN, FREE])
def test_both_powers_are_found(floor: str) -> None:
    found = law(runs(a=20.0, alpha=0.4, sizes=SIZES), floor)
    assert found.alpha == pytest.approx(0.4, 1e-3)
    assert found.beta == pytest.approx(0.5, 1e-3)
    assert found.a == pytest.approx(20.0, 0.01)
    assert found.b == pytest.approx(900.0, 0.01)
    assert found.off == pytest.approx(0.0, abs=1e-4)
    assert [held.parameters for held in found.held_out] == list(SIZES)
    assert all(abs(held.error) < 1e-3 for held in found.held_out)


def test_one_run_that_went_wrong_does_not_decide() -> None:
    some = runs(seeds=2, noise=0.005)
    some[1] = some[1]._replace(excess_nats=3 * some[1].excess_nats)
    assert law(some, KNOWN).beta == pytest.approx(0.5, abs=0.02)
    # As it would with plain squares.
    tokens, excess = (np.array([float(x[nth]) for x in some]) for nth in (1, 3))
    squares = fit_powers(None, tokens, excess, np.ones((1, len(some))), False, 1e9)
    assert abs(float(squares.beta[0]) - 0.5) > 0.03


def test_intervals_cover_the_truth() -> None:
    covered = dict.fromkeys(("beta", "b"), 0)
    trials = 16
    for draw in range(trials):
        found = law(runs(seeds=2, noise=0.05, draw=draw), KNOWN, 80).intervals
        assert set(found) == {"b", "beta"}
        for name, true in (("beta", 0.5), ("b", 900.0)):
            covered[name] += found[name][0] <= true <= found[name][1]
    # 95 % of infinitely many runs; of fourteen a bootstrap promises too much.
    assert all(0.8 * trials <= times for times in covered.values()), covered


@pytest.mark.slow
def test_the_interval_of_a_free_floor_covers_the_truth() -> None:
    held = 0
    for draw in range(30):
        found = law(runs(seeds=2, noise=0.05, draw=draw), FREE, 200)
        low, high = found.intervals["l_infinity"]
        held += low <= FLOOR <= high
        assert ("holds" in found.grade or found.grade == "right") == (low <= FLOOR <= high)
    assert 24 <= held <= 30


def test_the_same_draws_give_the_same_bits() -> None:
    some = runs(seeds=2, noise=0.05, draw=3)
    one, two = (fit_law(some, FLOOR, FREE, 50, 7) for _ in range(2))
    assert one == two
    assert one.intervals != fit_law(some, FLOOR, FREE, 50, 8).intervals


def test_no_draw_is_of_too_few_budgets_or_sizes_to_tell_a_law_by() -> None:
    one, other = runs()[:3], runs(sizes=SIZES[:2])[:8]
    other = [x for x in other if x.tokens in (other[0].tokens, other[1].tokens)]
    for some, kinds in ((one, ("tokens",)), (other, ("tokens", "parameters"))):
        counts = _counts(some, 2, 300, 0)
        assert counts.shape == (301, len(some)) and (counts.sum(1) == len(some)).all()
        for kind in kinds:
            drawn = [
                {getattr(run, kind) for run, times in zip(some, row, strict=True) if times}
                for row in counts
            ]
            assert min(map(len, drawn)) == 2


def test_what_can_be_drawn_in_one_way_only_has_no_interval() -> None:
    four = runs(noise=0.05)[:4]
    free, known = law(four, FREE, 50), law(four, KNOWN, 50)
    assert free.held_out[0].interval is None and free.intervals["beta"][0] < free.beta
    low, high = known.held_out[0].interval or (0, 0)
    assert low < known.held_out[0].predicted < high
    assert law(four[:3], FREE, 50).intervals == {}
    assert law(four, FREE, 1).intervals == {}


def test_the_largest_rung_is_predicted_by_the_others_alone() -> None:
    some = runs(seeds=2, noise=0.02)
    before = law(some, KNOWN, 50).held_out
    # Whatever was measured there, the prediction stays.
    most = max(run.tokens for run in some)
    moved = [x._replace(excess_nats=2 * x.excess_nats) if x.tokens == most else x for x in some]
    (after,) = law(moved, KNOWN, 50).held_out
    assert after.predicted == before[0].predicted
    assert after.interval == before[0].interval
    assert after.measured == pytest.approx(2 * before[0].measured)
    assert after.tokens == int(TOKENS[-1])
    assert after.error == pytest.approx(after.predicted / after.measured - 1)


@pytest.mark.parametrize(("floor", "words"), [("2.9", "low"), ("2.99", "high")])
def test_a_wrong_floor_is_found(floor: str, words: str) -> None:
    some = runs(seeds=2, noise=0.01)
    found, known = law(some, floor), law(some, KNOWN)
    assert found.off == pytest.approx(float(floor) - FLOOR)
    assert found.grade == f"{abs(found.off):.4f} nats too {words}"
    # The exponent follows the guess, and the largest rung is missed.
    assert abs(found.beta - 0.5) > 5 * abs(known.beta - 0.5)
    assert abs(found.held_out[0].error) > 5 * abs(known.held_out[0].error)


def test_a_floor_that_hides_in_the_data_is_found_by_the_free_fit() -> None:
    # The truth is said to be 0.05 nats lower than what the runs fall to.
    found = fit_law(runs(seeds=2, noise=0.01), FLOOR - 0.05, FREE, 100)
    assert found.off == pytest.approx(0.05, abs=0.01)
    assert "too high" in found.grade and "misses the truth" in found.grade
    assert law(runs(), FREE).grade == law(runs(), str(FLOOR)).grade == "right"
    assert law(runs(), KNOWN).grade == "exact"


def test_an_exponent_that_runs_away_is_said() -> None:
    flat = [run._replace(excess_nats=0.5, loss=FLOOR + 0.5) for run in runs()]
    assert law(flat, KNOWN).is_at_edge


def test_least_squares_are_non_negative() -> None:
    generator = np.random.default_rng(0)
    columns = generator.random((50, 8, 3))
    target = generator.normal(size=(50, 8))
    weight = generator.random((50, 8)) + 0.1
    found = non_negative(columns, target, weight)
    assert (found >= 0).all()
    assert (found == 0).any() and (found > 0).any()
    left = target - (columns @ found[..., None])[..., 0]
    slope = (columns * (weight * left)[..., None]).sum(-2)
    # Kuhn and Tucker: no slope where a coefficient is free, none upwards where it is 0.
    assert np.abs(slope[found > 0]).max() < 1e-9
    assert slope[found == 0].max() < 1e-9
