"""The map of a position: what the rules allow, what the model says, and what is settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tessera.go import play_out
from tessera.play.map import PositionMap, position_map
from tessera.play.session import Session
from tests.play.conftest import OWNERS
from tests.play.test_session import play

NewSession = Callable[..., Session]
BEFORE_SUPERKO = "B1 B2 C2 A2 A1 C1"  # on 3×3, where B1 would repeat a position


def some_map(new_session: NewSession, moves: str = "", **options: object) -> PositionMap:
    return position_map(play(new_session(**options), moves))


def test_it_says_what_the_session_says(new_session: NewSession) -> None:
    session = play(new_session("board"), "C3 B2 pass")
    outlook, position = session.outlook(), position_map(session)
    assert torch.equal(position.probabilities, outlook.probabilities)
    assert position.win == outlook.win and position.score == outlook.score
    assert (position.turn, position.to_play) == (1, "white")
    assert position.stones[2, 2] == 1 and position.stones[3, 1] == -1
    assert position.title() == "white to play after 3 moves"
    assert position.facts()[0].startswith(f"white wins {100 * outlook.win:.1f} %, score ")
    assert position.as_json()["moves"] == ["C3", "B2", "pass"]


def test_a_score_is_of_who_is_ahead(new_session: NewSession) -> None:
    position = some_map(new_session, "C3")
    for score, said in ((2.25, "W+2.2"), (-2.25, "B+2.2"), (0.0, "W+0.0")):
        record = PositionMap(
            position.stones, 1, [12], position.probabilities, position.legal, 0.5, None, 0.5, score
        )
        assert record.facts() == [
            f"white wins 50.0 %, score {said}",
            "given to what is no legal move: 50.0 %",
        ]


@pytest.mark.parametrize(
    ("moves", "is_over"), [("C3 pass", False), ("pass C3 pass", False), ("C3 pass pass", True)]
)
def test_two_passes_are_said_to_end_the_game(
    new_session: NewSession, moves: str, is_over: bool
) -> None:
    position = some_map(new_session, moves)
    told = [fact for fact in position.facts() if "over" in fact]
    assert told == ["the game is over after two passes, so a model may expect no more moves"] * (
        is_over
    )
    assert position.is_over is is_over


@pytest.mark.parametrize("turn", [0, 1])
def test_playouts_are_told_as_the_player_to_move_sees_them(
    new_session: NewSession, turn: int
) -> None:
    session = new_session("board", 3)
    board = torch.zeros(1, 2, 3, 3, dtype=torch.bool)
    board[0, 0, :2] = True  # black's two rows and the points between them are settled
    board[0, 0, 0, 0] = board[0, 0, 0, 2] = False
    session.set_position(board[0], turn)
    played = position_map(session, 40).played_out
    assert played is not None and played.num_games == 40
    counted = play_out(session.engine, 40)
    assert counted.win_rates[0] == 1  # of black
    assert played.win == 1 - turn
    assert played.score == pytest.approx(float(counted.scores[0]) * (1 - 2 * turn))
    assert (played.score > 0) == (turn == 0)
    assert torch.equal(played.ownership, counted.ownership[0])
    assert played.ownership[0].tolist() == [1, 1, 1]
    # All games ended alike, of which an interval is no point: Wilson's, of 40.
    low, high = played.win_interval if turn == 0 else reversed(played.win_interval)
    assert (high, low) == pytest.approx((1, 0.9124) if turn == 0 else (0, 0.0876), abs=1e-4)


def test_playouts_are_in_the_facts_and_in_json(new_session: NewSession) -> None:
    session = play(new_session("moves"), "C3 B2")
    position = position_map(session, 20)
    (said, _) = position.facts()
    assert said.startswith("in 20 playouts black wins ") and ", score " in said
    written = position.as_json()["playouts"]
    low, high = written["win_interval"]
    assert 0 <= low < written["win"] < high <= 1 and written["num_games"] == 20
    assert len(written["ownership"]) == 5 and position_map(session).as_json()["playouts"] is None
    assert position_map(session, 20).as_json() == position.as_json()


def test_whose_the_points_will_be_is_told_as_the_models_beside_the_playouts(
    new_session: NewSession,
) -> None:
    session = play(new_session(OWNERS), "C3 B2 D4")
    position = position_map(session, 20)
    assert position.ownership is session.outlook().ownership is not None
    written = position.as_json()
    assert torch.equal(torch.tensor(written["ownership"]), position.ownership)
    assert written["said_by"] == dict.fromkeys(("win", "score", "ownership"), "model")
    assert position.played_out is not None
    model, counted = position.owners()
    assert (model.title, model.ownership) == (
        "Whose each point will be, says the model",
        position.ownership,
    )
    assert counted.ownership is position.played_out.ownership
    assert [owners.title for owners in position_map(session).owners()] == [model.title]
    for kind, said_by in (("board", {"win": "model", "score": "model"}), ("moves", {})):
        without = some_map(new_session, kind=kind)
        told = without.as_json()
        assert told["ownership"] is None and told["said_by"] == said_by and not without.owners()


def test_json_says_whose_settled_points_are(new_session: NewSession) -> None:
    position = some_map(new_session)
    settled = torch.zeros(5, 5, dtype=torch.int32)
    settled[0, 0], settled[4, 4] = 1, -1
    told = replace(position, settled=settled).as_json()["settled"]
    assert told == {"black": ["A5"], "white": ["E1"]}


@pytest.mark.parametrize("kind", ["moves", "board"])
def test_json_sums_to_one_and_has_exactly_the_legal_moves(
    new_session: NewSession, kind: str
) -> None:
    written = some_map(new_session, BEFORE_SUPERKO, kind=kind, board_size=3).as_json()
    chances = written["probabilities"]
    assert sum(chances.values()) == pytest.approx(1, abs=1e-6)
    assert min(chances.values()) >= 0
    assert list(chances) == ["A3", "B3", "C3", "A1", "pass"]
    assert written["board"] == ["...", "OOX", "..O"]
    assert written["illegal"] == ["B1"]
    assert (written["win"] is None) is (kind == "moves")


def test_superko_is_illegal_where_the_rules_have_it(new_session: NewSession) -> None:
    options = {"board_size": 3}
    assert some_map(new_session, BEFORE_SUPERKO, **options).as_json()["illegal"] == ["B1"]
    simple = some_map(new_session, BEFORE_SUPERKO, ko="simple", **options)
    assert simple.as_json()["illegal"] == []
    assert simple.as_json()["probabilities"]["B1"] > 0


def test_the_likeliest_are_legal_and_in_order(new_session: NewSession) -> None:
    position = some_map(new_session, "C3 B2")
    found = list(position.likeliest().items())
    assert [letter for letter, _ in found] == list("abcdefghij")
    chances = [chance for _, (_, chance) in found]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] == float(position.probabilities[:25].max())
    assert all(position.legal[point] for _, (point, _) in found)
    few = some_map(new_session, "B2 pass A1", board_size=2)
    assert set(few.likeliest()) < set("abcdefghij")
    assert all(few.legal[point] for point, _ in few.likeliest().values())


def test_settled_points_are_known_where_chains_are_captured(new_session: NewSession) -> None:
    wall = "B5 pass B4 pass B3 pass B2 pass B1 pass A4 pass A2 pass"
    settled = some_map(new_session, wall).settled
    assert settled is not None
    assert settled[:, :2].eq(1).all() and not settled[:, 2:].any()
    assert some_map(new_session, wall, rules="phase2").settled is None


def test_a_position_that_was_set_up_has_no_moves(new_session: NewSession) -> None:
    session = new_session("board")
    boards = torch.zeros(2, 5, 5, dtype=torch.bool)
    boards[0, 2, 2] = boards[1, 3, 3] = True
    session.set_position(boards, 1)
    position = position_map(session)
    assert position.moves is None and position.last_move is None
    assert position.title() == "white to play, set up"
    assert position.as_json()["moves"] is None
