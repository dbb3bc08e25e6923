"""The picture of a map: the board with its percentages, and what the signs mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from textwrap import wrap

from tessera.play.drawing import (
    BoardDrawing,
    heat_disc,
    illegal_cross,
    owner_square,
    settled_box,
    stone_disc,
)
from tessera.play.map import Owners, PositionMap
from tessera.play.shapes import INK, Disc, Drawing, Shape, Words

_HEADER = 44.0  # pixels above the board
_ROW = 30.0  # height of a line below it
_TEXT = 17.0
_LETTER = 0.6  # width of a letter over the height of its font, of long lines about as much
_SIGN = 24.0  # the cell in which the signs below the board are drawn


def map_drawing(position: PositionMap, width: int = 600) -> Drawing:
    """A map as a picture.

    Args:
        position: the map.
        width: of the picture in pixels; everything was made to be read at 600.
    """
    cell = width / (position.board_size + 1)
    chances = position.probabilities
    highest = max(float(chances.max()), 1e-9)
    board = BoardDrawing(position.scene(), cell, _HEADER, chances, highest)
    below = _HEADER + width + 0.4 * _ROW
    shapes: list[Shape] = [*_header(position, width, highest), *board.shapes()]
    shapes += _signs(position, highest, width, below)
    letters = int((width - 40) / (_LETTER * _TEXT))
    lines = [line for fact in position.facts() for line in wrap(_capital(fact), letters)]
    for row, line in enumerate(lines, 1):
        shapes.append(Words(20, below + row * _ROW, line, _TEXT, anchor="start"))
    end = below + (len(lines) + 0.8) * _ROW
    for owners in position.owners():
        shapes += _ownership(position, owners, width, end)
        end += _HEADER + width + 1.2 * _ROW
    title = f"Map of possibilities: {position.title()}"
    return Drawing(width, end, title, shapes)


def _ownership(position: PositionMap, owners: Owners, width: float, top: float) -> Iterator[Shape]:
    """A further board: whose each point is or will be."""
    yield Words(20, top + _HEADER / 2 + 4, owners.title, _TEXT + 3, anchor="start")
    # The last move and what may be played are on the first board.
    scene = replace(position.scene(), legal=None, settled=None, last_move=None)
    cell = width / (position.board_size + 1)
    yield from BoardDrawing(scene, cell, top + _HEADER, ownership=owners.ownership).shapes()
    y, x = top + _HEADER + width + 0.4 * _ROW, 30.0
    for colour, sign in (("black", 1.0), ("white", -1.0)):
        for owner in (0.2, 0.6, 1.0) if owners.words else (1.0,):
            yield from owner_square(x, y, _SIGN, sign * owner)
            x += 0.9 * _SIGN
        yield Words(x, y, f"{colour}'s", _TEXT, anchor="start")
        x += 0.17 * width
    if owners.words:
        yield Words(width - 20, y, f"the larger, {owners.words[2]}", _TEXT, anchor="end")


def _header(position: PositionMap, width: float, highest: float) -> Iterator[Shape]:
    middle = _HEADER / 2 + 4
    yield stone_disc(30, middle, 20, -1 if position.turn else 1)
    yield Words(48, middle, _capital(position.title()), _TEXT + 3, anchor="start")
    text = f"pass {100 * position.pass_chance:.1f} %"
    yield Words(width - 20, middle, text, _TEXT + 3, anchor="end")


def _signs(position: PositionMap, highest: float, width: float, y: float) -> Iterator[Shape]:
    """What the signs mean, from left to right."""
    x = 30.0
    for strength in (0.1, 0.4, 1.0):
        yield heat_disc(x, y, _SIGN, strength)
        x += 0.95 * _SIGN
    yield Words(x, y, f"to {100 * highest:.1f} %", _TEXT, anchor="start")
    x = 0.34 * width
    yield from illegal_cross(x, y, _SIGN)
    yield Words(x + 0.6 * _SIGN, y, "illegal", _TEXT, anchor="start")
    if position.settled is not None:
        x = 0.55 * width
        yield settled_box(x, y, _SIGN)
        yield Words(x + 0.8 * _SIGN, y, "settled", _TEXT, anchor="start")
    x = 0.78 * width
    yield Disc(x, y, 0.24 * _SIGN, None, INK, 2.0)
    yield Words(x + 0.6 * _SIGN, y, "last move", _TEXT, anchor="start")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
