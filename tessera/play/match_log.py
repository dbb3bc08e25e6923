"""A log of a match's games: a JSON line each, only ever appended to, from which it goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from tessera.play.match_table import Fixture, PlayedGame, digest_of
from tessera.setting_errors import SettingError, as_int
from tessera.vocabulary import Vocabulary

_FORMAT = "tessera arena 1"
Pairing = tuple[int, int]  # two players by their numbers


class MatchLog:
    """The games that are there, and where the next ones are written; a context manager.

    The first line says the conditions. A last line that was not written to its end, by a process
    that was killed, is cut off. One process at a time has the file.

    Args:
        path: the file; made if there is none.
        conditions: what must be the same for games to be of one match, as JSON has it.
        board_size: n.

    Attributes:
        games: by pairing, the games that the file held.

    Raises:
        SettingError: if the file is no such log, one of other conditions, or another process's;
            nothing is changed.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: str, conditions: Mapping[str, Any], board_size: int) -> None:
        self.path, self._vocabulary = path, Vocabulary(board_size)
        self.games: dict[Pairing, list[PlayedGame]] = {}
        conditions = json.loads(json.dumps(conditions))
        if os.path.exists(path) and not os.path.isfile(path):
            raise SettingError(f"--log must be a file; {path} is none.")
        self._file = open(path, "a+b")  # noqa: SIM115  # closed by ``close``
        try:
            self._lock()
            whole = self._read(conditions)
            self._file.truncate(whole)
            if not whole:
                self._write({"log": _FORMAT, "conditions": conditions})
        except BaseException:
            self.close()
            raise

    def append(self, pairing: Pairing, game: PlayedGame) -> None:
        """Write a game that is over; it is there even if the process is killed next.

        Raises:
            OSError: naming the file, if it cannot be written.
        """
        fixture = game.fixture
        self._write(
            {
                "pairing": list(pairing),
                "opening": fixture.number,
                "first_is_black": fixture.first_is_black,
                "opening_plies": len(fixture.opening),
                "moves": " ".join(map(self._vocabulary.vertex, game.moves)),
                "points": game.points,
                "score": game.score,
                "ended": game.ended,
                "forfeit": game.forfeit,
                "seconds": list(game.seconds),
                "num_chosen": list(game.num_chosen),
            }
        )

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def __enter__(self) -> MatchLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lock(self) -> None:
        """Keep other processes from the file; the kernel takes that back however this one ends."""
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                must = "must be a file that no other process writes to"
                raise SettingError(f"--log {must}, got {self.path}; wait until it ends.") from None

    def _read(self, conditions: Mapping[str, Any]) -> int:
        """Take the games that are there; how many bytes are whole lines."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if not lines:
            if content:
                raise self._no_log("its first line has no end")
            return 0
        first = self._parsed(lines[0], 1)
        if first.get("log") != _FORMAT or not isinstance(first.get("conditions"), dict):
            raise self._no_log("its first line says no conditions")
        if problem := _difference(first.get("conditions"), conditions):
            raise SettingError(f"--log {self.path} is of another match: {problem}.")
        num_players = len(conditions["players"])
        for number, line in enumerate(lines[1:], 2):
            pairing, game = self._game(self._parsed(line, number), number)
            if not 0 <= pairing[0] < pairing[1] < num_players:
                raise self._no_log(f"line {number} is no game of two of its players")
            self.games.setdefault(pairing, []).append(game)
        return whole

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._no_log(f"line {number} is no JSON object")
        return found

    def _game(self, row: dict[str, Any], number: int) -> tuple[Pairing, PlayedGame]:
        try:
            moves = tuple(map(self._vocabulary.token, row["moves"].split()))
            opening = moves[: _whole(row["opening_plies"], len(moves))]
            one, other = map(_whole, row["pairing"])
            seconds, more_seconds = map(_finite, row["seconds"])
            num_chosen, more_chosen = map(_whole, row["num_chosen"])
            if not isinstance(row["first_is_black"], bool):
                raise ValueError
            game = PlayedGame(
                Fixture(_whole(row["opening"]), row["first_is_black"], opening),
                moves,
                _finite(row["score"]),
                _finite(row["points"]),
                digest_of(self._vocabulary.board_size, moves),
                (seconds, more_seconds),
                (num_chosen, more_chosen),
                row["ended"],
                row["forfeit"],
            )
            if min(game.seconds) < 0 or not _has_ended(game):
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise self._no_log(f"line {number} is no game") from None
        return (one, other), game

    def _no_log(self, why: str) -> SettingError:
        return SettingError(f"--log {self.path} is no log of a match: {why}.")

    def _write(self, row: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            error.filename = self.path  # a full disk does not say which file it is about
            raise


def _whole(value: Any, most: int = 2**62) -> int:
    """The value, if it is a whole number from 0 on."""
    number = as_int(value)
    if number is None or not 0 <= number <= most:
        raise ValueError
    return number


def _finite(value: Any) -> float:
    """The value, if it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _has_ended(game: PlayedGame) -> bool:
    """Whether the game ended in a way that there is, and the points are those of that end."""
    if game.ended in ("passes", "limit"):
        black_points = 0.5 if game.score == 0 else float(game.score > 0)
        return game.forfeit is None and game.black_points == black_points
    is_told = isinstance(game.forfeit, str) if game.ended == "forfeit" else game.forfeit is None
    return is_told and game.ended in ("resignation", "forfeit") and game.points in (0, 1)


def _difference(there: Any, here: Any, name: str = "") -> str | None:
    """The first condition that differs, in words; None if none does."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            inner = f"{name}.{key}" if name else key
            if problem := _difference(there.get(key), here.get(key), inner):
                return problem
        return None
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True), 1)
        found = (_difference(one, other, f"{name} {nth}") for nth, (one, other) in pairs)
        return next(filter(None, found), None)
    return None if there == here else f"{name} is {there} there and {here} here"
