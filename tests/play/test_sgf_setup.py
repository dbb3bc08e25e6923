"""Positions that SGF files set up: which stones stand where, who moves, what is handicap."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tessera.play.session import Session
from tessera.play.sgf import SgfGame, read_sgf
from tessera.play.sgf_session import lead_to
from tessera.vocabulary import Vocabulary

NewSession = Callable[..., Session]


def game_of(content: bytes) -> SgfGame:
    (game,) = read_sgf(content, allows_set_up=True)
    assert isinstance(game, SgfGame), game
    return game


def set_ups_of(content: bytes) -> list[tuple[int, str, str]]:
    """Of each set-up the ply, the stones as rows of X, O and ., and who moves."""
    return [
        (each.ply, " ".join("".join(".XO"[stone] for stone in row) for row in each.stones), turn)
        for each in game_of(content).set_ups
        for turn in "BW"[each.turn]
    ]


@pytest.mark.parametrize(
    ("content", "set_ups"),
    [
        (b"(;SZ[3]AB[aa]AW[bb]PL[W])", [(0, "X.. .O. ...", "W")]),
        (b"(;SZ[3]AB[aa]AW[bb];W[cc])", [(0, "X.. .O. ...", "W")]),
        (b"(;SZ[3]AB[aa]AW[bb];B[cc])", [(0, "X.. .O. ...", "B")]),
        (b"(;SZ[3]AB[aa]AW[bb])", [(0, "X.. .O. ...", "B")]),
        (b"(;SZ[3]AB[aa:bb])", [(0, "XX. XX. ...", "B")]),
        (b"(;SZ[3]HA[2]AB[aa][cc])", [(0, "X.. ... ..X", "W")]),
        (b"(;SZ[3]PL[white];W[aa])", [(0, "... ... ...", "W")]),
        (b"(;SZ[3]PL[B]AB[ ];B[aa])", []),
        (b"(;SZ[3];B[aa];W[bb];AE[aa];B[cc])", [(2, "... .O. ...", "B")]),
        (b"(;SZ[3];B[aa];AE[aa]AE[bb]PL[B];B[cc])", [(1, "... ... ...", "B")]),
        (b"(;SZ[3];B[aa];AB[aa];W[bb])", []),
        # W takes the stone in the corner; what is set up stands beside what is left.
        (b"(;SZ[3];B[aa];W[ba];B[cc];W[ab];AB[cb];B[])", [(4, ".O. O.X ..X", "B")]),
        (
            b"(;SZ[3]AB[aa];W[bb];AW[cc];B[ca])",
            [(0, "X.. ... ...", "W"), (1, "X.. .O. ..O", "B")],
        ),
    ],
)
def test_set_ups_are_read(content: bytes, set_ups: list[tuple[int, str, str]]) -> None:
    assert set_ups_of(content) == set_ups


@pytest.mark.parametrize(
    ("content", "handicap"),
    [
        (b"(;SZ[9]HA[2]AB[cg][gc];W[ee])", "C3 G7"),
        (b"(;SZ[9]HA[2]AB[gc][cg])", "C3 G7"),
        (b"(;SZ[9]HA[3]AB[aa][bb][ee];W[dd])", "A9 B8 E5"),
        (b"(;SZ[9]AB[cg][gc];W[ee])", ""),  # not said to be one
        (b"(;SZ[9]HA[2]AB[cg][gc];B[ee])", ""),
        (b"(;SZ[9]HA[3]AB[cg][gc];W[ee])", ""),
        (b"(;SZ[9]HA[2]AB[cg][gc]AW[ee];W[ef])", ""),
        (b"(;SZ[9]HA[x]AB[cg][gc];W[ee])", ""),
    ],
)
def test_handicap_is_what_says_so_and_is_nothing_else(content: bytes, handicap: str) -> None:
    (found,) = game_of(content).set_ups
    assert " ".join(map(Vocabulary(9).vertex, found.handicap)) == handicap


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"(;SZ[5]AB[ff])", "the root: AB[ff] has a point that is none of a 5\u00d75 board."),
        (b"(;SZ[5]AB[aa]AW[aa])", "the root: AB[aa]AW[aa] sets one point up twice."),
        (b"(;SZ[5]AB[aa]AE[aa])", "the root: AB[aa]AE[aa] sets one point up twice."),
        (b"(;SZ[5]PL[X])", "the root: PL[X] names a player who is neither B nor W."),
        (
            b"(;SZ[5]AB[aa]PL[B];W[bb])",
            "move 1: W[bb] is white's; colours must",
        ),
        (
            b"(;SZ[5]AB[aa]PL[W];B[bb])",
            "move 1: B[bb] is black's; colours must alternate from w",
        ),
        (b"(;SZ[5];B[aa];W[aa];AB[bb])", "move 3: AB[bb] follows A5, which was occupied."),
        (
            b"(;SZ[5]AB[ab][ba]AW[aa])",
            "the root: AB[ab][ba]AW[aa] sets up a chain without liberties.",
        ),
    ],
)
def test_what_cannot_be_set_up_is_said(content: bytes, message: str) -> None:
    (fault,) = read_sgf(content, allows_set_up=True)
    assert str(fault).startswith(message)


def test_komi_is_read_and_changes_no_move() -> None:
    assert game_of(b"(;SZ[5]KM[6.5];B[aa])").komi == 6.5
    assert game_of(b"(;SZ[5]KM[6.5];B[aa])") == game_of(b"(;SZ[5];B[aa])")
    for komi in (b"", b"x", b"nan", b"1e9"):
        assert game_of(b"(;SZ[5]KM[%s];B[aa])" % komi).komi is None


def test_a_session_is_led_to_every_ply(new_session: NewSession) -> None:
    game = game_of(b"(;SZ[5]AB[aa][bb]AW[dd];W[cc];B[dc];AE[aa];W[ee])")
    stones = []
    for ply in range(4):
        session = new_session("board")
        assert lead_to(session, game, ply) == (0, 1, 0, 1)[ply]
        assert not session.has_history
        stones.append(int(session.stones.abs().sum()))
    assert stones == [3, 4, 4, 5]
    session = new_session("board")
    assert lead_to(session, game) == 1 and session.turn == 0
    with pytest.raises(ValueError, match="does not see a board"):
        lead_to(new_session("moves"), game)


def test_an_illegal_move_after_a_set_up_says_its_number(new_session: NewSession) -> None:
    game = game_of(b"(;SZ[5]AB[aa][bb]AW[dd];W[cc];B[aa])")
    with pytest.raises(ValueError, match=r"^move 2: A5 is occupied\.$"):
        lead_to(new_session("board"), game)


def test_a_set_up_is_what_the_board_part_sees(new_session: NewSession) -> None:
    session, other = new_session("board"), new_session("board")
    lead_to(session, game_of(b"(;SZ[5]AB[aa][bb]AW[dd];W[cc])"), 0)
    boards = torch.zeros(2, 5, 5, dtype=torch.int64)
    boards[0, 0, 0] = boards[0, 1, 1] = boards[1, 3, 3] = 1
    other.set_position(boards, 1)
    assert torch.equal(session.outlook().probabilities, other.outlook().probabilities)
