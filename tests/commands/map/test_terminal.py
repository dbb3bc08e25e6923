"""A map as text: what it shows without colours, with them, and on a narrow terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
import torch

from tessera.commands.map.terminal import Ink, lines_of
from tests.play.test_map_drawing import played_out, some_map

PLAIN = Ink(has_signs=True)


def uncoloured(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]


def test_everything_can_be_read_without_colours() -> None:
    assert lines_of(some_map(3), PLAIN, 80) == [
        "Black to play after 2 moves, the last of them A1.",
        "",
        "    A B C",
        " 3  b c a 3    a  C3    91.43 %  ████████████",
        " 2  d # e 2    b  A3     1.43 %",
        " 1 (O)X f 1    c  B3     1.43 %",
        "    A B C      d  A2     1.43 %",
        "               e  C2     1.43 %",
        "               f  C1     1.43 %",
        "                  pass   1.43 %",
        "",
        "X black   O white   ( ) last move   # illegal   x o ' settled",
        "a b c the likeliest   + more than an even share   . less",
        "Black wins 25.0 %, score W+3.5.",
        "Given to what is no legal move: 25.0 %.",
    ]


def test_settled_stones_are_small_and_settled_points_are_ticks() -> None:
    position = some_map()
    settled = position.stones.new_zeros(9, 9)
    settled[7:, :] = 1
    rows = lines_of(replace(position, settled=settled), PLAIN, 80)
    assert rows[10][:22] == " 2  ' # ' ' ' ' ' ' ' 2"[:22]
    assert rows[11][:22] == " 1 (o)x ' ' ' ' ' ' ' 1"[:22]


@pytest.mark.parametrize("size", [2, 9, 13, 19])
@pytest.mark.parametrize("ink", [Ink(), PLAIN, Ink(True, True), Ink(True, False)])
def test_no_line_is_longer_than_80(size: int, ink: Ink) -> None:
    position = some_map(size, "A2" if size == 2 else "C3")
    lines = uncoloured(lines_of(position, ink, 80))
    assert max(map(len, lines)) <= 80
    likeliest = "A2" if size == 2 else "C3"
    assert [line for line in lines if re.search(rf"a  {likeliest} +\d", line)]


def test_on_a_narrow_terminal_the_moves_are_below_the_board() -> None:
    lines = lines_of(some_map(19), PLAIN, 50)
    assert max(len(line) for line in lines if not line.startswith("X black")) <= 60
    (board,) = [at for at, line in enumerate(lines) if line.startswith(" 1 ")]
    (likeliest,) = [at for at, line in enumerate(lines) if line.startswith("a  C3")]
    assert likeliest > board


def test_colours_change_no_word_of_the_moves() -> None:
    position = some_map()
    coloured = lines_of(position, Ink(True, True), 80)
    assert any("\x1b[" in line for line in coloured)
    lines = lines_of(position, PLAIN, 80)
    assert not any("\x1b[" in line for line in lines)
    for plain, other in list(zip(lines, uncoloured(coloured), strict=True))[2:14]:
        assert plain[27:] == other[27:]
        signs = str.maketrans("XOxo#", "●●●●×")
        assert plain[3:22].translate(signs) == other[3:22]


def test_colours_tell_settled_and_likely_points() -> None:
    coloured = lines_of(some_map(), Ink(True, True), 80)
    rows = {
        line[:2].strip(): re.findall(r"\x1b\[38;5;(\d+);48;5;(\d+)m(..?)", line)
        for line in coloured
    }
    likely, unlikely = rows["3"][2], rows["9"][0]
    assert likely[1] == "18" and likely[2] == " a" and unlikely[1] != "18"
    assert rows["2"][0][1] == "246", "grey"
    assert rows["2"][1][2] == " ×"
    assert rows["1"][0][:2] == ("231", "180") and rows["1"][1][:2] == ("16", "180")


def test_a_stream_without_the_signs_gets_ascii() -> None:
    for ink in (Ink(), Ink(has_colours=True)):
        assert "".join(lines_of(some_map(), ink, 80)).isascii()


def test_what_is_not_known_is_not_said() -> None:
    position = replace(some_map(), moves=None, win=None, score=None, settled=None)
    lines = lines_of(position, PLAIN, 80)
    assert lines[0] == "Black to play, set up."
    assert lines[-1] == "What was played before is unknown."
    assert not any("settled" in line or "wins" in line or "( )" in line for line in lines)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("terminal", "environment", "has_colours"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (False, {"TERM": "xterm"}, False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_that_have_them(
    terminal: bool, environment: dict[str, str], has_colours: bool
) -> None:
    ink = Ink.of(Terminal() if terminal else stream("utf-8"), environment)
    assert ink == Ink(has_colours, True)


def test_signs_are_for_streams_that_have_them() -> None:
    assert not Ink.of(stream("ascii"), {}).has_signs
    assert not Ink.of(stream("latin-1"), {}).has_signs
    assert Ink.of(stream("utf-8"), {}).has_signs


def test_the_models_ownership_is_a_board_of_letters_before_that_of_playouts() -> None:
    position = replace(
        some_map(3), ownership=torch.tensor([[0.5, 0.1, 0], [-0.1, -0.5, 1.0], [-1, 0, 0]])
    )
    lines = lines_of(position, PLAIN, 80)
    at = lines.index("Whose each point will be, says the model:")
    assert lines[at + 3 : at + 6] == [" 3  X x . 3", " 2  o O X 2", " 1 (O). . 1"]
    assert lines[-2].startswith("X black's with three chances of four or more   x likelier black's")
    both = lines_of(replace(position, played_out=played_out(3)), PLAIN, 80)
    assert both[at + 1 : at + 11] == lines[at:], "the same, below a line of the playouts"
    assert both.index("Whose each point is at the end of 1,000 playouts:") > at + 1


def test_ownership_is_a_second_board_of_letters() -> None:
    played = played_out(3)
    lines = lines_of(replace(some_map(3), played_out=played), PLAIN, 80)
    at = lines.index("Whose each point is at the end of 1,000 playouts:")
    assert lines[:at][-2:] == ["Given to what is no legal move: 25.0 %.", ""]
    assert "In 1,000 playouts black wins 25.0 % (22.0 to 28.0), score W+3.2 (± 0.8)." in lines
    assert lines[at + 2 : at + 7] == [
        "    A B C",
        " 3  . . X 3",
        " 2  O . . 2",
        " 1 (X)O . 1",
        "    A B C",
    ]
    weak = replace(played, ownership=played.ownership / 4)
    lines = lines_of(replace(some_map(3), played_out=weak), PLAIN, 80)
    assert lines[at + 3 : at + 6] == [" 3  . . x 3", " 2  o . . 2", " 1 (x)o . 1"]
    coloured = lines_of(replace(some_map(3), played_out=weak), Ink(True, True), 80)
    assert uncoloured(coloured)[-8:] == lines[-8:] and "48;5;" in coloured[-5]
    assert max(map(len, lines)) <= 80
