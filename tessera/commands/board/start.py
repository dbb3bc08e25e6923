"""The position that a page's game begins with, as the page has it: vertices by colour."""

from __future__ import annotations

from typing import Any

from tessera.commands.one_line import one_line
from tessera.play.map import COLOURS
from tessera.play.sgf_setup import SetUp
from tessera.setting_errors import SettingError, described
from tessera.vocabulary import Vocabulary

_NAMES = {*COLOURS, "to_play", "handicap"}


def start_as_json(start: SetUp | None, vocabulary: Vocabulary) -> dict[str, Any] | None:
    """``black`` and ``white`` stones, who is ``to_play``, and whether it is ``handicap``."""
    if start is None:
        return None
    stones = [stone for row in start.stones for stone in row]
    names: dict[str, Any] = {
        colour: [vocabulary.vertex(point) for point, stone in enumerate(stones) if stone == sign]
        for colour, sign in zip(COLOURS, (1, -1), strict=True)
    }
    if start.handicap:  # in the order in which the model reads it
        names["black"] = [vocabulary.vertex(point) for point in start.handicap]
    return {**names, "to_play": COLOURS[start.turn], "handicap": bool(start.handicap)}


def start_of(given: Any, vocabulary: Vocabulary) -> SetUp | None:
    """The position that the page means; None for the empty board.

    Raises:
        SettingError: if it is none.
    """
    if given is None:
        return None
    if not isinstance(given, dict) or given.keys() != _NAMES:
        raise SettingError(f"start must be a position, got {described(given)}.")
    if given["to_play"] not in COLOURS or type(given["handicap"]) is not bool:
        raise SettingError("start must say who is to_play, black or white, and its handicap.")
    places = {colour: _points(given[colour], vocabulary) for colour in COLOURS}
    stones, turn = [0] * vocabulary.num_points, COLOURS.index(given["to_play"])
    for colour, sign in zip(COLOURS, (1, -1), strict=True):
        for point in places[colour]:
            if stones[point]:
                raise SettingError(f"start has {vocabulary.vertex(point)} twice.")
            stones[point] = sign
    handicap = tuple(places["black"]) if given["handicap"] else ()
    if handicap and (len(handicap) < 2 or places["white"] or not turn):
        raise SettingError("start must have black stones alone as handicap, and white to play.")
    size = vocabulary.board_size
    rows = tuple(tuple(stones[at : at + size]) for at in range(0, size * size, size))
    return SetUp(0, rows, turn, handicap)


def _points(given: Any, vocabulary: Vocabulary) -> list[int]:
    if not isinstance(given, list) or len(given) > vocabulary.num_points:
        raise SettingError(f"start must have lists of its stones, got {described(given)}.")
    points = []
    for vertex in given:
        try:
            point = vocabulary.token(vertex[:20] if isinstance(vertex, str) else "")
        except ValueError as error:
            raise SettingError(one_line(f"start: {error}")) from None
        if point == vocabulary.pass_token:
            raise SettingError("start must have points, got pass.")
        points.append(point)
    return points
