"""Ratings against a case counted by hand, the sequential test against simulated truth."""

from __future__ import annotations

import math
import random

import pytest

from tessera.play.ratings import Game, rate
from tessera.play.sprt import SequentialTest
from tessera.setting_errors import SettingError


def elo(share: float) -> float:
    return 400 * math.log10(share / (1 - share))


def test_two_players_have_the_ratings_of_the_hand_counted_example() -> None:
    # Player 0 won 40 of 50 with black and 20 of 50 with white; black's advantage is the same for
    # both, so the odds 4 and 3/2 are those of difference + advantage and advantage - difference.
    games = [Game(0, 1, 1)] * 40 + [Game(0, 1, 0)] * 10 + [Game(1, 0, 1)] * 30
    games += [Game(1, 0, 0)] * 20
    found = rate(2, games)
    difference, error = found.difference(0, 1)
    assert difference == pytest.approx((elo(0.8) - elo(0.6)) / 2)
    assert found.black_elo == pytest.approx((elo(0.8) + elo(0.6)) / 2)
    assert found.elo[0] == pytest.approx(difference / 2) and sum(found.elo) == pytest.approx(0)
    # Each of the two logits has the variance 1 / (n p (1 - p)).
    variance = (1 / (50 * 0.8 * 0.2) + 1 / (50 * 0.6 * 0.4)) / 4 * (400 / math.log(10)) ** 2
    assert error == pytest.approx(1.959964 * math.sqrt(variance))
    assert found.error(0) == pytest.approx(error / 2) and found.is_bounded
    assert found.black_error == pytest.approx(error)
    # Who met one of them with one colour alone tells nothing of the two.
    more = rate(3, [*games, *[Game(2, 1, 1)] * 3, *[Game(2, 1, 0)] * 2])
    assert more.difference(0, 1) == pytest.approx((difference, error))
    assert more.difference(1, 2)[1] > error and more.black_error == pytest.approx(error)


def test_the_first_players_term_is_told_from_strength() -> None:
    # Whoever has black wins nine in ten; nobody is stronger.
    games = [Game(*sides, points) for sides in ((0, 1), (1, 0)) for points in [1] * 9 + [0]]
    found = rate(2, games)
    assert found.elo == pytest.approx((0, 0), abs=1e-6)
    assert found.black_elo == pytest.approx(elo(0.9))
    # One side that had black only would look as strong without the term.
    games = [Game(0, 1, 1)] * 9 + [Game(0, 1, 0)] + [Game(1, 0, 1)] * 5 + [Game(1, 0, 0)] * 5
    assert rate(2, games).difference(0, 1)[0] == pytest.approx(elo(0.9) / 2)


def test_ratings_are_found_again_from_games_that_were_drawn_with_them() -> None:
    true, black, chance = (150.0, 20.0, -170.0), 60.0, random.Random(3)
    games = [
        Game(one, other, float(chance.random() < 1 / (1 + 10 ** (-gap / 400))))
        for one in range(3)
        for other in range(3)
        if one != other
        for gap in [true[one] - true[other] + black]
        for _ in range(4000)
    ]
    found = rate(3, games)
    for nth in range(3):
        assert found.elo[nth] == pytest.approx(true[nth], abs=1.5 * found.error(nth))
        assert 2 < found.error(nth) < 8
    assert found.black_elo == pytest.approx(black, abs=1.5 * found.black_error)


def test_draws_count_half_and_the_order_of_games_does_not_matter() -> None:
    games = [Game(0, 1, 0.5)] * 10 + [Game(1, 0, 1), Game(1, 0, 0), Game(0, 2, 1), Game(2, 1, 0.5)]
    one, other = rate(3, games), rate(3, games[::-1])
    assert one.elo == pytest.approx(other.elo)
    doubled = [Game(0, 1, 1), Game(0, 1, 0)] * 5 + games[10:]
    assert rate(3, doubled).elo == pytest.approx(one.elo)


def test_somebody_who_won_all_games_is_no_end_ahead() -> None:
    found = rate(2, [Game(0, 1, 1)] * 20 + [Game(1, 0, 0)] * 20)
    assert not found.is_bounded
    # 40.5 points of 41 with the drawn game.
    assert found.difference(0, 1)[0] == pytest.approx(elo(40.5 / 41), rel=1e-6)
    assert found.black_elo == pytest.approx(0, abs=1e-6)
    weak = [Game(2, 0, 0)] * 5 + [Game(1, 2, 1)] * 5
    rest = rate(3, [Game(0, 1, 1), Game(0, 1, 0), Game(1, 0, 1), Game(1, 0, 0), *weak])
    assert not rest.is_bounded and rest.elo[2] < min(rest.elo[:2])


def pairs_of(chance: random.Random, strength: float, number: int) -> list[int]:
    """In which of five results pairs of games end between players so far apart, in Elo."""
    results = []
    for _ in range(number):
        lead = chance.gauss(0, 150)  # of black in this opening
        first, second = (
            chance.random() < 1 / (1 + 10 ** (-(strength + sign * lead) / 400)) for sign in (1, -1)
        )
        results.append(2 * (first + second))
    return results


@pytest.mark.parametrize(("strength", "verdict"), [(0.0, "H0"), (80.0, "H1")])
def test_the_sequential_test_is_wrong_no_more_often_than_it_may(
    strength: float, verdict: str
) -> None:
    test, chance = SequentialTest(0, 80), random.Random(1)
    verdicts, lengths = [], []
    for _ in range(100):
        counts, found = [0] * 5, None
        for number, result in enumerate(pairs_of(chance, strength, 2000), 1):
            counts[result] += 1
            if number % 4 == 0 and (found := test.decision(counts)) is not None:
                lengths.append(number)
                break
        verdicts.append(found)
    # 5 of 100 may be wrong; 12 of them are three standard errors more.
    assert None not in verdicts and verdicts.count(verdict) >= 88
    assert sum(lengths) / len(lengths) < 200


def test_a_ratio_is_that_of_the_likeliest_distributions() -> None:
    test = SequentialTest(-10, 30)
    assert test.bounds == pytest.approx((-2.944439, 2.944439), abs=1e-6)
    # H1 where H0 is true once in a hundred, H0 where H1 is once in ten.
    strict = SequentialTest(0, 10, alpha=0.01, beta=0.1)
    assert strict.bounds == pytest.approx((math.log(0.1 / 0.99), math.log(0.9 / 0.01)))
    assert test.ratio((0, 0, 0, 0, 0)) == 0
    # Of pairs that end 0 or 2 alone the likeliest distribution with a mean is that mean itself.
    low, high = (1 / (1 + 10 ** (-strength / 400)) for strength in (-10, 30))
    exact = 60 * math.log(high / low) + 40 * math.log((1 - high) / (1 - low))
    assert test.ratio((40, 0, 0, 0, 60)) == pytest.approx(exact, abs=1e-3)
    # Twice as much of the same says twice as much.
    once, twice = test.ratio((10, 20, 40, 25, 15)), test.ratio((20, 40, 80, 50, 30))
    assert twice == pytest.approx(2 * once, rel=1e-3)
    # The two distributions have the means of the hypotheses, to the last digits.
    shares, exact = [0.1, 0.2, 0.4, 0.2, 0.1], 0.0
    for sign, mean in ((-1, low), (1, high)):
        steps = [each - mean for each in (0, 0.25, 0.5, 0.75, 1)]
        tilt = 0.0
        for _ in range(50):  # Newton's
            parts = [
                share * step / (1 + tilt * step) for share, step in zip(shares, steps, strict=True)
            ]
            slopes = [
                part * step / (1 + tilt * step) for part, step in zip(parts, steps, strict=True)
            ]
            tilt += sum(parts) / sum(slopes)
        logs = [
            math.log(share / (1 + tilt * step)) for share, step in zip(shares, steps, strict=True)
        ]
        exact += sign * sum(100 * share * log for share, log in zip(shares, logs, strict=True))
    assert test.ratio((10, 20, 40, 20, 10)) == pytest.approx(exact, abs=1e-9)
    mirrored = SequentialTest(-30, 10)
    assert mirrored.ratio((15, 25, 40, 20, 10)) == pytest.approx(-once, rel=1e-6)
    assert test.decision((0, 0, 5, 10, 40)) == "H1" and test.decision((40, 10, 5, 0, 0)) == "H0"
    assert test.decision((1, 1, 1, 1, 1)) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((5, 5), "elo1 must be more than elo0, 5, got 5"),
        ((0, 9000), "elo1 must be a number from -4000 to 4000, got 9000"),
        ((0, 5, 0.7), "alpha must be more than 0 and less than 0.5, got 0.7"),
        ((0, 5, 0.05, 0), "beta must be more than 0 and less than 0.5, got 0"),
    ],
)
def test_a_test_of_nothing_is_refused(given: tuple[float, ...], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        SequentialTest(*given)
