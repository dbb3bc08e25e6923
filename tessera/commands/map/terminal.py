"""A map as lines of text, which need no colours, and in colours where the terminal has them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from tessera.play.map import CLEAR, Owners, PositionMap

_MOST_BAR = 12  # characters of the longest bar
_GAP = 2
_LEANING = 0.1  # of an ownership: 55 chances of 100
# Of the 256 colours that terminals share. The map is one hue, from light to dark.
_WOOD, _GREY, _BLACK, _WHITE = 180, 246, 16, 231
_GREYS = (232, 255)  # from black to white
_HEAT = ((0.08, 153), (0.25, 111), (0.45, 69), (0.65, 26), (0.85, 18))  # from this strength on


@dataclass(frozen=True, slots=True)
class Ink:
    """What a stream can show.

    Attributes:
        has_colours: whether it is a terminal that is said to have colours, of which 256 are used.
        has_signs: whether it has characters beyond ASCII.
    """

    has_colours: bool = False
    has_signs: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Ink:
        """That of a stream; NO_COLOR and FORCE_COLOR are honoured, the first before the second.

        Source: https://no-color.org and https://force-color.org.
        """
        is_dumb = environment.get("TERM", "dumb") == "dumb"
        wants = bool(environment.get("FORCE_COLOR")) or (stream.isatty() and not is_dumb)
        try:
            "●×█".encode(stream.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return cls(wants and not environment.get("NO_COLOR"), False)
        return cls(wants and not environment.get("NO_COLOR"), True)

    def paint(self, text: str, letters: int, ground: int) -> str:
        """The text in one colour on another."""
        return f"\x1b[38;5;{letters};48;5;{ground}m{text}\x1b[0m" if self.has_colours else text


@dataclass(frozen=True, slots=True)
class _Cell:
    """One point: its sign, and the two colours it has."""

    sign: str
    letters: int = _BLACK
    ground: int = _WOOD


def lines_of(position: PositionMap, ink: Ink, width: int) -> list[str]:
    """The board, the likeliest moves beside it, or below where it is too narrow, and the rest.

    Args:
        position: the map.
        ink: what the stream can show.
        width: characters of a line.
    """
    board = _board(position, ink, _cells(position, ink))
    board_width = 2 * position.board_size + 7
    room = width - board_width - _GAP
    moves = _moves(position, ink, room if room >= 18 else width)
    if room >= 18:
        rows = itertools.zip_longest(board, ["", *moves], fillvalue="")
        blank = " " * board_width
        body = [f"{left or blank}{' ' * _GAP}{right}" for left, right in rows]
    else:
        body = [*board, "", *moves]
    title = position.title()
    if position.last_move is not None:
        last = position.vocabulary.vertex(position.last_move)
        title += f", the last of them {last}"
    facts = [*position.facts(), *_history(position)]
    lines = [_capital(title), "", *body, "", *_legend(position, ink), *map(_capital, facts)]
    for owners in position.owners():
        lines += ["", *_ownership(position, owners, ink)]
    return [line.rstrip() for line in lines]


def _ownership(position: PositionMap, owners: Owners, ink: Ink) -> Iterator[str]:
    """A further board: whose each point is or will be."""
    yield f"{owners.title}:"
    yield ""
    yield from _board(
        position, ink, [_owner(owner) for owner in owners.ownership.flatten().tolist()]
    )
    yield ""
    if owners.words is None:
        yield "X black's   O white's   . neither's"
        return
    clearly, more = owners.words[:2]
    yield f"X black's {clearly}   x {more} black's   . neither's"
    yield "O o the same of white"


def _owner(owner: float) -> _Cell:
    """A letter for whose a point is, on grey from black to white."""
    sign = "X" if owner > 0 else "O"
    sign = "." if abs(owner) < _LEANING else sign if abs(owner) >= CLEAR else sign.lower()
    ground = _GREYS[0] + round((1 - owner) / 2 * (_GREYS[1] - _GREYS[0]))
    return _Cell(sign, _WHITE if owner > 0 else _BLACK, ground)


def _board(position: PositionMap, ink: Ink, cells: list[_Cell]) -> list[str]:
    size, vertex = position.board_size, position.vocabulary.vertex
    letters = "   " + "".join(f" {vertex(column)[0]}" for column in range(size)) + "    "
    rows = [letters]
    for row in range(size):
        number = size - row
        text = ""
        closes = False
        for column in range(size):
            point = row * size + column
            cell = cells[point]
            is_last = point == position.last_move
            before = "(" if is_last else ")" if closes else " "
            closes = is_last
            text += ink.paint(before + cell.sign, cell.letters, cell.ground)
        text += ink.paint(")" if closes else " ", _BLACK, _WOOD)
        rows.append(f"{number:>2} {text}{number:<3}")
    return [*rows, letters]


def _cells(position: PositionMap, ink: Ink) -> list[_Cell]:
    points = position.stones.numel()
    chances = position.probabilities[:points].tolist()
    highest = max(*position.probabilities.tolist(), 1e-9)
    even = 1 / int(position.legal.sum())
    letters = {point: letter for letter, (point, _) in position.likeliest().items()}
    owners = [0] * points
    if position.settled is not None:
        owners = position.settled.flatten().tolist()
    cells = []
    for point, stone in enumerate(position.stones.flatten().tolist()):
        ground = _GREY if owners[point] else _WOOD
        if stone:
            cells.append(_stone(stone, bool(owners[point]), ground, ink))
        elif not position.legal[point]:
            cells.append(_Cell("×" if ink.has_colours and ink.has_signs else "#", ground=ground))
        else:
            plain = "'" if owners[point] else "+" if chances[point] >= even else "."
            strength = (chances[point] / highest) ** 0.5
            heat = next((colour for least, colour in _HEAT[::-1] if strength >= least), ground)
            ink_of = _WHITE if strength >= _HEAT[2][0] else _BLACK
            cells.append(_Cell(letters.get(point, plain), ink_of, heat))
    return cells


def _stone(stone: int, is_settled: bool, ground: int, ink: Ink) -> _Cell:
    sign = "X" if stone > 0 else "O"
    if ink.has_colours and ink.has_signs:
        sign = "●"
    elif is_settled:
        sign = sign.lower()
    return _Cell(sign, _BLACK if stone > 0 else _WHITE, ground)


def _moves(position: PositionMap, ink: Ink, room: int) -> list[str]:
    """The likeliest moves from the likeliest down, then the pass."""
    vertex = position.vocabulary.vertex
    rows = [(letter, vertex(p), chance) for letter, (p, chance) in position.likeliest().items()]
    rows.append((" ", "pass", position.pass_chance))
    highest = max(*(chance for _, _, chance in rows), 1e-9)
    longest = min(_MOST_BAR, room - 19)
    block = "█" if ink.has_signs else "="
    return [
        f"{letter}  {name:<4} {100 * chance:6.2f} %  {block * round(longest * chance / highest)}"
        for letter, name, chance in rows
    ]


def _legend(position: PositionMap, ink: Ink) -> Iterator[str]:
    has_colours = ink.has_colours and ink.has_signs
    illegal = "× illegal" if has_colours else "# illegal"
    settled = ""
    if position.settled is not None:
        settled = "   grey: settled" if ink.has_colours else "   x o ' settled"
    stones = "" if has_colours else "X black   O white   "
    last = "" if position.last_move is None else "( ) last move   "
    yield f"{stones}{last}{illegal}{settled}"
    darker = "darker: likelier   " if ink.has_colours else ""
    yield f"{darker}a b c the likeliest   + more than an even share   . less"


def _history(position: PositionMap) -> list[str]:
    return ["what was played before is unknown"] if position.moves is None else []


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
