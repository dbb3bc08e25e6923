"""Sides that choose by playouts: they see what one move wins, and are the same in every batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tessera.go import GPUGoEngine, Rules
from tessera.play.match import match_rules
from tessera.play.playout_sides import FlatSide, PlayoutSide, TreeSide, candidates
from tessera.setting_errors import SettingError
from tessera.vocabulary import Vocabulary

SIDES = (FlatSide(40), TreeSide(40))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def position(text: str, rules: Rules, turn: int = 0) -> GPUGoEngine:
    """A game from a diagram: X is black, O white."""
    rows = text.split()
    engine = GPUGoEngine(1, "cpu", len(rows), rules)
    stones = torch.tensor([[[letter == each for letter in row] for row in rows] for each in "XO"])
    engine.set_position(stones[None], torch.tensor([turn]))
    return engine


def chosen(side: PlayoutSide, engine: GPUGoEngine, word: int = 5) -> str:
    mine = torch.ones(engine.batch_size, dtype=torch.bool)
    words = torch.full((engine.batch_size,), word)
    return Vocabulary(engine.board_size).vertex(int(side.moves(engine, mine, words)[0]))


# Whoever plays A5 takes the other's chain that shares this last liberty, and all else with it.
RACE = """
.OOOX
XOXXX
XOX..
XOXXX
XOOOO
"""


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)
def test_a_move_that_wins_the_game_is_found(side: PlayoutSide) -> None:
    for turn in (0, 1):
        assert chosen(side, position(RACE, match_rules(max_moves=24), turn)) == "A5"


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)
def test_a_win_as_the_board_stands_is_taken_when_the_other_side_passes(side: PlayoutSide) -> None:
    engine = position(RACE, match_rules(komi=-0.5), turn=1)
    engine.play_batch(torch.tensor([25]))
    assert chosen(side, engine) == "pass"
    of_white = position(RACE, match_rules(komi=24.5), turn=0)
    of_white.play_batch(torch.tensor([25]))
    assert chosen(side, of_white) == "pass"
    losing = position(RACE, match_rules(komi=24.5, max_moves=12), turn=1)
    losing.play_batch(torch.tensor([25]))
    assert chosen(side, losing) != "pass"


@pytest.mark.parametrize("side", (FlatSide(40), TreeSide(5)), ids=lambda side: side.name)
def test_a_game_is_played_the_same_in_every_batch(side: PlayoutSide) -> None:
    engine = GPUGoEngine(6, "cpu", 4, match_rules(max_moves=12))
    engine.play_batch(torch.tensor([0, 5, 5, 10, 15, 3]))
    words, everyone = torch.arange(6) * 977, torch.ones(6, dtype=torch.bool)
    together = side.moves(engine, everyone, words)
    for games in ([1], [0, 2, 3, 4, 5]):
        mine = torch.zeros(6, dtype=torch.bool)
        mine[games] = True
        assert torch.equal(side.moves(engine, mine, words)[games], together[games])
    legal = candidates(engine).gather(1, together.unsqueeze(1))
    assert bool(legal.all()) and torch.equal(side.moves(engine, everyone, words), together)
    assert not torch.equal(side.moves(engine, everyone, words + 1), together)
    assert engine.move_number.tolist() == [1] * 6


@pytest.mark.parametrize("turn", [0, 1])
def test_of_moves_that_win_as_often_the_one_with_the_better_score_is_played(
    turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def results(leaves: GPUGoEngine, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Every game is drawn; black has one point more for each point that the move is nearer B2.
        last = leaves.history[:, 0].long()
        return torch.ones_like(words), -10 * (last - 4).abs()

    monkeypatch.setattr("tessera.play.playout_sides._results", results)
    engine = position("... ... ...", match_rules(), turn)
    best = chosen(FlatSide(18), engine)
    assert best in (("B2",), ("A3", "C1"))[turn]


@pytest.mark.parametrize("kind", [FlatSide, TreeSide])
@pytest.mark.parametrize("number", [1, 3, 17])
def test_any_number_of_playouts_gives_a_candidate(kind: type[PlayoutSide], number: int) -> None:
    engine = GPUGoEngine(2, "cpu", 3, match_rules())
    moves = kind(number).moves(engine, torch.tensor([True, True]), torch.tensor([1, 2]))
    assert bool(candidates(engine).gather(1, moves.unsqueeze(1)).all())
    assert kind(number).name.endswith(f":{number}")


def test_where_nothing_is_left_both_pass() -> None:
    full = position(".X.X. XXXXX .X.X. XXXXX .X.X.", match_rules(komi=0.5))
    assert [chosen(side, full) for side in SIDES] == ["pass", "pass"]
    with pytest.raises(SettingError, match="uct must be at least 1, got 0"):
        TreeSide(0)
