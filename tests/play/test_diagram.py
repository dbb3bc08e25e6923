"""Boards drawn in letters, as other programs print them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tessera.play.diagram import read_diagram
from tessera.play.ending import board_text
from tessera.play.session import Session

BOARD = [[0, 0, 1], [-1, 0, 0], [0, 1, 0]]

GNU_GO = """
White (O) has captured 0 pieces

   A B C
 3 . .(X)3
 2 O + . 2     WHITE (O) has captured 12 stones
 1 . X . 1     BLACK (X) has captured 0 stones
   A B C
"""
GTP = "=1 \n   A B C\n 3 . . X 3\n 2 O + . 2\n 1 . X . 1\n   A B C\n\n"
KATAGO = """= MoveNum: 3 HASH: 2D2E4BB0E2B4E2D4
   A B C
 3 . . X3
 2 O2+ .
 1 . X1.
Next player: White
Rules: {"ko":"POSITIONAL"}
B stones captured: 0
"""


@pytest.mark.parametrize(
    "text",
    [GNU_GO, GTP, KATAGO, "..X\nO..\n.X.\n", " . . X\r\n O . .\r\n . X .", "(.).X\n(O). .\n\n.X."],
    ids=["GNU Go", "GTP", "KataGo", "dense", "CRLF", "brackets"],
)
def test_boards_of_other_programs_are_read(text: str) -> None:
    assert read_diagram(text) == BOARD


def test_our_own_showboard_is_read(new_session: Callable[..., Session]) -> None:
    session = new_session(board_size=3)
    for vertex in ("C3", "A2", "B1"):
        session.play(session.vocabulary.token(vertex))
    assert read_diagram("\n".join(board_text(session))) == BOARD


@pytest.mark.parametrize("size", [2, 9, 10, 19])
def test_numbers_of_one_and_two_digits_are_no_points(size: int) -> None:
    rows = [
        f"{size - row:>2} {' '.join('X' + '.' * (size - 1))} {size - row}" for row in range(size)
    ]
    assert read_diagram("\n".join(rows)) == [[1] + [0] * (size - 1)] * size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no board in it; a row is of X, O and . with blanks between."),
        ("E5 C3 G3\n", "there is no board in it"),
        ("X", "the board's size must be 2 to 19, got 1."),
        ((20 * "." + "\n") * 20, "the board's size must be 2 to 19, got 20."),
        ("...\n...\n", "the board must be square, got 2 rows of 3 points."),
        ("...\n..\n...\n", "line 2: a row must have 3 points as the first has, got 2."),
        ("...\n.Y.\n...\n", "line 2: .Y. is no row of a board."),
        ("..\n..\n\n..\n..", "the board must be square, got 4 rows of 2 points."),
        (" 3 ...\n 1 ...\n 2 ...", "the rows must be numbered 3 to 1 from the top."),
    ],
)
def test_what_is_no_board_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_diagram(text)
    assert str(error.value).startswith(message)
