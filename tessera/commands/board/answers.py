"""What the page is answered: every question names its whole line, so pages cannot disturb others.

A question is a JSON object that was not looked at yet; what is wrong with it raises a ValueError,
whose text is shown on the page.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tessera.commands.board.start import start_as_json, start_of
from tessera.commands.one_line import one_line
from tessera.companion import Companion
from tessera.go import NotWanted
from tessera.play.ending import ending_of
from tessera.play.gtp_game import GtpGame
from tessera.play.lines import Lines
from tessera.play.map import played_out, position_map
from tessera.play.sgf_lines import MoveTree, move_tree, read_move_tree, write_move_tree
from tessera.play.sgf_setup import SetUp
from tessera.setting_errors import SettingError, described, number, whole_number

_MOST_PLAYOUTS = 100_000
_MOST_WAITING = 4  # questions for playouts at once; the server's other threads stay free
_LOOK_EVERY_S = 0.1
_END_WITHIN_S = 10.0
_TEMPERATURE = number("0 to 1000", lambda x: 0 <= x <= 1000)


class Busy(Exception):
    """Too much is being asked at once; the text says what."""


class Answers:
    """A model's answers, in any number of threads.

    Args:
        companion: the model.
        name: what the page calls it.
    """

    def __init__(self, companion: Companion, name: str) -> None:
        self._name, self._rules = name, companion.rules
        self._new = companion.session()
        self._has_outcome = companion.model.outcome is not None
        self._lines = Lines(self._new)
        self._asking, self._playing = threading.Lock(), threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._is_open = True

    def close(self) -> None:
        """Ask the model nothing more; what is being played out ends soon."""
        self._is_open = False
        for lock in (self._asking, self._playing):  # are never given back
            lock.acquire(timeout=_END_WITHIN_S)

    @contextmanager
    def _asked(self, lock: threading.Lock, is_wanted: Callable[[], bool]) -> Iterator[None]:
        """Within it nobody else holds the lock."""
        while not lock.acquire(timeout=_LOOK_EVERY_S):
            if not is_wanted():
                raise NotWanted
        try:
            if not is_wanted():
                raise NotWanted
            yield
        finally:
            lock.release()

    def settings(self) -> dict[str, Any]:
        """What the page has to know before the first move."""
        return {
            "name": self._name,
            "board_size": self._new.board_size,
            "komi": self._rules.komi,
            "has_outcome": self._has_outcome,
        }

    def map(self, question: dict[str, Any]) -> dict[str, Any]:
        """The position after ``moves`` from ``start`` and its map, see ``PositionMap``.

        After two passes ``result`` is black's lead in points, dead stones taken off.
        """
        line = self._line(question)
        with self._asked(self._asking, self._is_still_open):
            session = self._lines.session_at(*line)
            found = position_map(session)
            score = ending_of(session).margin(self._rules.komi) if session.is_over else None
        last = None if found.last_move is None else found.vocabulary.vertex(found.last_move)
        told = {"title": found.title(), "last_move": last}
        return {**found.as_json(), **told, "is_over": session.is_over, "result": score}

    def move(self, question: dict[str, Any]) -> dict[str, Any]:
        """The move that the model plays after ``moves`` at a ``temperature``."""
        (moves, start), temperature = self._line(question), question.get("temperature", 0)
        _TEMPERATURE("temperature", temperature)
        with self._asked(self._asking, self._is_still_open):
            session = self._lines.session_at(moves, start)
            move = GtpGame(session, float(temperature)).move_of_model(session.turn)
            self._lines.keep(session, [*moves, session.moves[-1]], start)
        return {"move": move}

    def playouts(
        self, question: dict[str, Any], is_wanted: Callable[[], bool] = lambda: True
    ) -> dict[str, Any]:
        """How ``num_games`` games went on after ``moves``, see ``PlayedOut``; it takes its time.

        Args:
            question: its ``moves`` and ``num_games``.
            is_wanted: whether somebody still waits for the answer.

        Raises:
            NotWanted: if nobody does.
            Busy: if too many others wait.
        """
        line = self._line(question)
        num_games = whole_number("num_games", question.get("num_games"), 2, _MOST_PLAYOUTS)

        def is_wanted_here() -> bool:
            return self._is_open and is_wanted()

        if not self._waiting.acquire(blocking=False):
            raise Busy("other positions are being played out; try again when they are done.")
        try:
            with self._asked(self._asking, is_wanted_here):
                session = self._lines.session_at(*line)
            with self._asked(self._playing, is_wanted_here):
                return played_out(session, num_games, is_wanted=is_wanted_here).as_json()
        finally:
            self._waiting.release()

    def save(self, question: dict[str, Any]) -> bytes:
        """An SGF file of ``tree``, pairs of a parent's place (-1 for none) and a vertex.

        It begins at ``start``, see ``_line``.
        """
        given = question.get("tree")
        if not isinstance(given, list):
            raise SettingError(f"tree must be a list of moves, got {described(given)}.")
        pairs: list[tuple[int, int]] = []
        for node in given:
            if not isinstance(node, list) or len(node) != 2 or type(node[0]) is not int:
                raise SettingError("tree must hold pairs of a place and a vertex.")
            pairs.append((node[0], self._token(node[1], len(pairs) + 1)))
        start = start_of(question.get("start"), self._new.vocabulary)
        return write_move_tree(move_tree(self._new.board_size, pairs, start), self._rules)

    def load(self, content: bytes) -> dict[str, Any]:
        """The first game of an SGF file as a ``tree``, and how many ``games`` the file has.

        ``start`` is the position that it begins with, None for the empty board.
        """
        tree, num_games = read_move_tree(content)
        size = self._new.board_size
        if tree.board_size != size:
            raise SettingError(
                f"the board must be {size}×{size}, the model's, got {tree.board_size}."
            )
        start = start_as_json(tree.start, self._new.vocabulary)
        return {"tree": self._as_pairs(tree), "games": num_games, "start": start}

    def _as_pairs(self, tree: MoveTree) -> list[tuple[int, str]]:
        vertex = self._new.vocabulary.vertex
        return [(at, vertex(move)) for at, move in zip(tree.parents, tree.moves, strict=True)]

    def _line(self, question: dict[str, Any]) -> tuple[list[int], SetUp | None]:
        """The tokens of ``moves``, and the position ``start`` that they follow."""
        given = question.get("moves")
        if not isinstance(given, list):
            raise SettingError(f"moves must be a list of vertices, got {described(given)}.")
        moves = [self._token(vertex, ply) for ply, vertex in enumerate(given, 1)]
        return moves, start_of(question.get("start"), self._new.vocabulary)

    def _token(self, vertex: object, ply: int) -> int:
        if not isinstance(vertex, str):
            raise SettingError(f"move {ply}: a move must be a vertex, got {described(vertex)}.")
        try:
            return self._new.vocabulary.token(vertex[:20])
        except ValueError as error:
            raise SettingError(one_line(f"move {ply}: {error}")) from None

    def _is_still_open(self) -> bool:
        return self._is_open
