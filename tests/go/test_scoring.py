"""Pass-alive scoring: drawn boards, a slow count by the rule's own words, and whole games."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tessera.go import GameRecord, GPUGoEngine, Rules, play_games
from tessera.go.bitboard import unpack
from tessera.go.loop import GameLoop
from tessera.go.players import get_player
from tests.go.oracle import BLACK, WHITE, Oracle
from tests.go.positions import engine_at, grown_boards
from tests.go.settled_oracle import pass_alive

# The board, and whose area its points are by the plain count and with what is settled first.
DRAWN = {
    "a dead stone in an eye": (
        ".X.XO XXXXO O.XOO XXXO. ..XO.",
        "XXXXO XXXXO O.XOO XXXOO XXXOO",
        "XXXXO XXXXO XXXOO XXXOO XXXOO",
    ),
    "dead stones with one eye": (
        ".OOOO OXX.O OX.XO O.XXO OOOO.",
        "OOOOO OXX.O OXXXO O.XXO OOOOO",
        "OOOOO OOOOO OOOOO OOOOO OOOOO",
    ),
    "seki": (
        "XX.OO XXXOO XXOOO XXOOO XX.OO",
        "XX.OO XXXOO XXOOO XXOOO XX.OO",
        "XX.OO XXXOO XXOOO XXOOO XX.OO",
    ),
    "seki beside life": (
        "X.O.O.X XXOOOXX .XO.OX. XXXOXXX X.XXX.X XXX.XXX ..X.X..",
        "X.OOO.X XXOOOXX XXOOOXX XXXOXXX XXXXXXX XXXXXXX XXXXXXX",
        "X.OOO.X XXOOOXX XXOOOXX XXXOXXX XXXXXXX XXXXXXX XXXXXXX",
    ),
    "life inside life": (
        ".OOOOOO O.....O OXXXXXO OX.X.XO OXXXXXO O.....O OOOOOO.",
        "OOOOOOO O.....O OXXXXXO OXXXXXO OXXXXXO O.....O OOOOOOO",
        "OOOOOOO O.....O OXXXXXO OXXXXXO OXXXXXO O.....O OOOOOOO",
    ),
    "death inside life inside life": (
        ".OOOOOOO O......O OXXXXXXO OX.XO.XO OXXXXXXO O......O O......O OOOOOOO.",
        "OOOOOOOO O......O OXXXXXXO OXXXO.XO OXXXXXXO O......O O......O OOOOOOOO",
        "OOOOOOOO O......O OXXXXXXO OXXXXXXO OXXXXXXO O......O O......O OOOOOOOO",
    ),
    "room for two eyes": (
        ".OOOOOO O.....O OXXXXXO OX.XXXO OXXXXXO O.....O OOOOOO.",
        "OOOOOOO O.....O OXXXXXO OXXXXXO OXXXXXO O.....O OOOOOOO",
        "OOOOOOO O.....O OXXXXXO OXXXXXO OXXXXXO O.....O OOOOOOO",
    ),
    "one eye": (
        "XXXO. X.XO. XXXO. OOOO. .....",
        "XXXOO XXXOO XXXOO OOOOO OOOOO",
        "XXXOO XXXOO XXXOO OOOOO OOOOO",
    ),
    "an empty board": ("... ... ...",) * 3,
}


def owners(engine: GPUGoEngine) -> str:
    """Whose area each point of one game is, drawn with X, O and dots."""
    return " ".join("".join(".XO"[x] for x in row) for row in engine.ownership()[0].tolist())


def engine_of(boards: Tensor, rules: Rules, backend: str = "torch") -> GPUGoEngine:
    engine = GPUGoEngine(len(boards), "cpu", boards.shape[-1], rules, backend)
    engine.set_position(boards, torch.arange(len(boards)) % 2)
    return engine


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_boards_are_counted_as_drawn(name: str, turn: int) -> None:
    board, *expected = DRAWN[name]
    for score, drawn in zip(("area", "pass_alive"), expected, strict=True):
        engine = engine_at(board, turn, Rules(komi=6.5, score=score))
        assert owners(engine) == drawn
        assert engine.score().tolist() == [drawn.count("X") - drawn.count("O") - 6.5]


def test_suicide_in_the_rules_makes_the_difference() -> None:
    board = "O.X.. .XXX. XX.X. .XXX. ....."
    counts = [
        owners(engine_at(board, rules=Rules(suicide=suicide, score="pass_alive")))
        for suicide in (False, True)
    ]
    assert counts[0] == "XXXXX XXXXX XXXXX XXXXX XXXXX"
    assert counts[1] == "O.XXX .XXXX XXXXX XXXXX XXXXX"


def counted(rows: list[str], suicide: bool) -> int:
    """KataGo's rule word by word: empty the dead stones, then count as Tromp and Taylor do."""
    grid = {(r, c): stone for r, row in enumerate(rows) for c, stone in enumerate(row)}
    territories = {colour: pass_alive(rows, colour, suicide)[1] for colour in (BLACK, WHITE)}
    for colour, other in ((BLACK, WHITE), (WHITE, BLACK)):
        grid |= {point: "." for point in territories[other] if grid[point] == colour}
    return Oracle(len(rows), "simple", suicide, grid=tuple(grid.values())).area()


def rows_of(board: Tensor) -> list[str]:
    """A board (2 or 3, n, n) as rows of X, O and dots."""
    stones = board[0].int() + 2 * board[1].int()
    return ["".join(".XO"[stone] for stone in row) for row in stones.tolist()]


@settings(deadline=None, max_examples=25)
@given(
    size=st.integers(2, 19),
    seed=st.integers(0, 2**40),
    suicide=st.booleans(),
    komi=st.sampled_from([0.0, 7.5, -0.25]),
)
def test_random_boards_are_counted_by_the_words_of_the_rule(
    size: int, seed: int, suicide: bool, komi: float
) -> None:
    boards = grown_boards(size, 8, seed)
    engine = engine_of(boards, Rules(suicide=suicide, komi=komi, score="pass_alive"))
    expected = [counted(rows_of(board), suicide) - komi for board in boards]
    assert engine.score().tolist() == expected
    assert (engine.ownership().sum((1, 2)) - komi).tolist() == expected
    exchanged = engine_of(boards[:, [1, 0]], replace(engine.rules, komi=-komi))
    assert exchanged.score().tolist() == [-score for score in expected]
    assert torch.equal(exchanged.ownership(), -engine.ownership())


def test_only_points_that_are_settled_are_counted_otherwise() -> None:
    boards = grown_boards(9, 200, seed=1)
    plain = engine_of(boards, Rules())
    owned = engine_of(boards, Rules(score="pass_alive")).ownership()
    settled = plain.settled_points()
    black, white = unpack(settled.black), unpack(settled.white)
    assert owned[black].eq(1).all() and owned[white].eq(-1).all()
    differs = owned != plain.ownership()
    assert differs.any() and not differs[~(black | white)].any()


# Whole games.

CUT = Rules(max_moves=35)  # of games of 50 plies, so that dead stones stand yet


def games_of(player: str, score: str) -> GameRecord:
    return play_games(player, range(200), seed=3, board_size=5, rules=replace(CUT, score=score))


def test_games_are_the_same_and_some_results_are_not() -> None:
    plain, settled = games_of("uniform", "area"), games_of("uniform", "pass_alive")
    assert settled.rules.score == "pass_alive"
    assert torch.equal(plain.moves, settled.moves)
    assert torch.equal(plain.log_probs, settled.log_probs)
    differs = plain.results != settled.results
    assert 50 < int(differs.sum()) < 150


def test_results_are_those_of_the_last_positions() -> None:
    record = games_of("rules", "pass_alive")
    engine = GPUGoEngine(200, "cpu", 5, record.rules)
    for moves in record.moves.long().t():
        engine.play_batch(moves)
    assert torch.equal(engine.score(), record.results)
    expected = [counted(rows_of(board), False) - 7.5 for board in engine.boards]
    assert record.results.tolist() == expected


def test_games_that_follow_each_other_in_a_loop_are_scored_alike() -> None:
    rules = replace(CUT, score="pass_alive")
    loop = GameLoop(get_player("uniform"), 40, 7, board_size=5, rules=rules, seed=3)
    record = loop.play(torch.arange(40))
    assert torch.equal(record.results, games_of("uniform", "pass_alive").results[:40])


def test_the_design_s_second_phase_has_no_such_score() -> None:
    with pytest.raises(ValueError, match="score must be area where only single stones are capt"):
        replace(Rules(ko="simple", capture="single"), score="pass_alive")
