"""A map written as SGF, read by another program and by this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from sgfmill import sgf, sgf_moves

from tessera.play.map import PositionMap, position_map
from tessera.play.session import Session
from tessera.play.sgf import SgfGame, read_sgf
from tessera.play.sgf_map import write_sgf_map
from tests.play.test_session import play

NewSession = Callable[..., Session]


def labels_of(position: PositionMap) -> dict[tuple[int, int], str]:
    """By sgfmill's points, rows from the bottom, the letters that the map has."""
    size = position.board_size
    return {
        (size - 1 - point // size, point % size): letter
        for letter, (point, _) in position.likeliest().items()
    }


def test_another_program_reads_moves_labels_and_percentages(new_session: NewSession) -> None:
    session = play(new_session("board"), "C3 B2 pass D4")
    position = position_map(session)
    content = write_sgf_map(position, session.rules)
    document = sgf.Sgf_game.from_bytes(content)
    root, last = document.get_root(), document.get_last_node()
    assert document.get_size() == 5 and root.get("KM") == 7.5
    assert root.get("AP") == ("tessera", "map")
    board, plays = sgf_moves.get_setup_and_moves(document)
    assert plays == [("b", (2, 2)), ("w", (1, 1)), ("b", None), ("w", (3, 3))]
    assert board.is_empty()
    assert dict(last.get("LB")) == labels_of(position)
    comment = last.get("C").splitlines()
    assert comment[0] == "black to play after 4 moves"
    for letter, (point, chance) in position.likeliest().items():
        assert f"{letter}  {position.vocabulary.vertex(point)}  {100 * chance:.2f} %" in comment
    assert f"pass  {100 * position.pass_chance:.2f} %" in comment
    assert comment[-2:] == position.facts()
    assert not root.has_property("LB") and not root.has_property("C")
    assert read_sgf(content) == [SgfGame(5, session.moves)]


def test_the_empty_board_has_its_map_in_the_root(new_session: NewSession) -> None:
    session = new_session()
    position = position_map(session)
    document = sgf.Sgf_game.from_bytes(write_sgf_map(position, session.rules))
    assert len(document.get_main_sequence()) == 1
    assert dict(document.get_root().get("LB")) == labels_of(position)


def test_a_position_that_was_set_up_is_set_up_there(new_session: NewSession) -> None:
    session = new_session("board")
    boards = torch.zeros(2, 5, 5, dtype=torch.bool)
    boards[0, 0, 1] = boards[1, 4, 2] = boards[1, 3, 3] = True
    session.set_position(boards, 1)
    document = sgf.Sgf_game.from_bytes(write_sgf_map(position_map(session), session.rules))
    root = document.get_root()
    black, white, empty = root.get_setup_stones()
    assert (black, white, empty) == ({(4, 1)}, {(0, 2), (1, 3)}, set())
    assert root.get("PL") == "w"


def test_what_the_model_gives_to_a_player_is_his_territory(new_session: NewSession) -> None:
    session = play(new_session("board"), "C3 B2")
    ownership = torch.zeros(5, 5)
    ownership[0, 0], ownership[3, 1] = 0.5, 0.9  # A5, and the white stone B2, which is dead
    ownership[2, 2], ownership[4, 4], ownership[4, 3] = 1.0, -0.5, -0.49  # C3 is black's own
    position = replace(position_map(session), ownership=ownership)
    last = sgf.Sgf_game.from_bytes(write_sgf_map(position, session.rules)).get_last_node()
    assert last.get("TB") == {(4, 0), (1, 1)} and last.get("TW") == {(0, 4)}
    assert "three chances of four" in last.get("C").splitlines()[-1]
    plain = write_sgf_map(position_map(session), session.rules)
    assert b"TB" not in plain and b"TW" not in plain


def test_where_nothing_is_legal_but_a_pass_there_are_no_labels(new_session: NewSession) -> None:
    session = play(new_session(board_size=2), "A1 pass B2")
    position = position_map(session)
    assert position.likeliest() == {}
    last = sgf.Sgf_game.from_bytes(write_sgf_map(position, session.rules)).get_last_node()
    assert not last.has_property("LB")
    assert "pass  100.00 %" in last.get("C")
