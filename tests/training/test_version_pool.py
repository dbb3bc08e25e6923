"""The pool of past versions: who stays, who is met, how they are rated, and that all is kept."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from tessera.model import GameModel
from tessera.training.checkpoint_parts import ContentError
from tessera.training.objectives.version_pool import RULES, VersionPool, check_pool
from tests.play.test_expert_games import MODEL
from tests.training.test_selfplay_watch import won


def model_of(seed: int) -> GameModel:
    torch.manual_seed(seed)
    return GameModel(MODEL)


def filled(most: int, numbers: range) -> VersionPool:
    pool, model = VersionPool(most), model_of(0)
    for number in numbers:
        with torch.no_grad():
            next(model.parameters()).fill_(number)
        pool.add(number, model)
    return pool


def test_versions_of_a_pool_span_the_whole_run() -> None:
    pool = filled(4, range(1, 65))
    first, *inside, newest = pool.numbers
    assert (first, newest, len(inside)) == (1, 64, 2)
    gaps = [b - a for a, b in zip(pool.numbers, pool.numbers[1:], strict=False)]
    assert max(gaps) <= 40 and min(gaps) >= 8, pool.numbers
    assert filled(1, range(1, 5)).numbers == [4] and filled(2, range(1, 5)).numbers == [1, 4]
    assert filled(0, range(1, 5)).numbers == [] and filled(8, range(1, 5)).numbers == [1, 2, 3, 4]


def test_a_version_is_what_it_was_when_it_came() -> None:
    pool, other = filled(3, range(1, 4)), model_of(1)
    place = next(other.parameters()).data_ptr()
    for number in (1, 2, 3):
        pool.load(number, other)
        assert (next(other.parameters()) == number).all()
    assert next(other.parameters()).data_ptr() == place  # where graphs read it


def test_opponents_are_the_newest_version_and_every_other_one_in_turn() -> None:
    pool = filled(5, range(1, 6))
    assert filled(5, range(1, 2)).opponents(2) == [1] and VersionPool(5).opponents(1) == []
    found = [pool.opponents(number) for number in range(6, 60)]
    assert {own[0] for own in found} == {5} and {own[1] for own in found} == {1, 2, 3, 4}
    assert pool.opponents(5)[0] == 4
    drawn = {pool.drawn(seed) for seed in range(60)}
    assert drawn == {1, 2, 3, 4, 5}
    assert pool.drawn(7) == copy.deepcopy(pool).drawn(7)
    # With every version that comes another one may be drawn.
    places = set()
    for pool.numbers[-1] in range(5, 40):
        places.add(pool.numbers.index(pool.drawn(7)))
    assert places == set(range(5))


def test_a_rating_is_over_the_rules_and_follows_from_all_games() -> None:
    pool = filled(8, range(1, 4))
    pool.record(1, RULES, won((1.0, 0.0), 500).games)
    pool.record(2, 1, won((1.0, 1.0), 5000).games[:10000:2])  # wins all with black
    assert not pool.has_met(3)
    pool.record(2, 1, won((0.0, 0.0), 5000).games[1::2])  # and none with white
    assert pool.rating(1) == pytest.approx(pool.rating(2), abs=1)
    pool = filled(8, range(1, 4))
    pool.record(1, RULES, won((10 / 11, 10 / 11), 4000).games)
    pool.record(2, 1, won((10 / 11, 10 / 11), 4000).games)
    pool.record(2, RULES, won((100 / 101, 100 / 101), 4000).games)
    # Ten of eleven points are 400 Elo.
    assert [pool.rating(number) for number in (1, 2)] == pytest.approx([400, 800], abs=3)
    pool = filled(8, range(3, 4))
    pool.record(3, RULES, won((1.0, 1.0), 10).games)
    # Who won all of 20 games is rated as if a drawn one stood beside them: 20½ points to ½.
    assert pool.rating(3) == pytest.approx(400 * math.log10(41), abs=0.1)


def test_results_of_those_who_left_are_forgotten_and_all_else_is_kept() -> None:
    pool, model = filled(2, range(1, 3)), model_of(0)
    for number, other in ((1, RULES), (2, RULES), (2, 1), (3, RULES), (3, 1), (3, 2)):
        pool.record(number, other, won((1.0, 0.5), 3).games)
    assert pool.has_met(2)
    pool.add(3, model)
    assert pool.numbers == [1, 3] and not pool.has_met(2)
    kept = pool.saved()
    assert kept["results"] == [
        *([1, 0, 3, 3.0], [0, 1, 3, 1.5]),
        *([3, 0, 3, 3.0], [0, 3, 3, 1.5], [3, 1, 3, 3.0], [1, 3, 3, 1.5]),
    ]
    check_pool(kept, model.state_dict())
    other = VersionPool(2)
    other.restore(kept, model)
    assert other.numbers == [1, 3] and other.rating(3) == pool.rating(3)
    again = other.saved()
    assert again["results"] == kept["results"]
    for one, two in zip(kept["weights"], again["weights"], strict=True):
        assert all(torch.equal(weight, two[name]) for name, weight in one.items())
    fewer = VersionPool(1)
    fewer.restore(kept, model)
    assert fewer.numbers == [3]
    assert VersionPool(2).saved() == {}
    # What is kept stays as it was, and what goes on is on the player's own device.
    other.restore(kept, model_of(0).to("meta"))
    assert all(weight.is_meta for own in other.saved()["weights"] for weight in own.values())
    pool.add(4, model)
    assert kept["numbers"] == [1, 3]


def test_a_version_that_was_met_before_it_came_is_met_no_more_after_a_restart() -> None:
    for numbers in (range(1, 1), range(1, 3)):
        pool, other = filled(2, numbers), VersionPool(2)
        pool.record(3, RULES, won((1.0, 0.5), 3).games)
        other.restore(pool.saved(), model_of(0))
        assert other.has_met(3) and other.rating(3) == pool.rating(3)


@pytest.mark.parametrize(
    "result",
    [
        *([3, 0, 0, 0.0], [3, 3, 2, 1.0], [-1, 0, 2, 1.0], [3, 0, 2, 1], [3, 0, 2, math.nan]),
        *([3, 0, 2, math.inf], [3, 0, 2, -0.5], [3, 0, 2, 2.5], [3, 0, 2], (3, 0, 2, 1.0)),
    ],
)
def test_no_result_is_kept_of_games_that_cannot_have_been_played(result: object) -> None:
    state = {"numbers": [], "weights": [], "results": [[3, 0, 2, 1.0]]}
    check_pool(state, {})
    with pytest.raises(ContentError, match="objective pool results must be black, white"):
        check_pool({**state, "results": [[3, 0, 2, 1.0], result]}, {})
