"""Lines of one game beside each other: every position that was looked at is kept for a while."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

from tessera.go import IllegalMoveError
from tessera.play.session import Mark, Session
from tessera.play.sgf_session import set_up
from tessera.play.sgf_setup import SetUp

_MOST_KEPT = 1024  # positions; on 19×19 some 30 kB each, and what the model remembers


class Lines:
    """Games that go apart anywhere, each followed by a session of its own.

    A line that goes on from one that was looked at costs its new moves alone.

    Args:
        session: a new game.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._marks: OrderedDict[tuple[SetUp | None, tuple[int, ...]], Mark] = OrderedDict()

    def session_at(self, moves: Sequence[int], start: SetUp | None = None) -> Session:
        """A session in which these tokens have been played; nobody else plays on in it.

        Args:
            moves: since the start.
            start: the position that every move of the line follows; None for the empty board.

        Raises:
            ValueError: if the model cannot be told of the start, or that cannot be.
            IllegalMoveError: saying the move's number, its vertex and the reason.
        """
        session, line = copy.copy(self._session), tuple(moves)
        known = next((at for at in range(len(line), 0, -1) if (start, line[:at]) in self._marks), 0)
        key = (start, line[:known])
        if key in self._marks:
            session.go_back(self._marks[key])
            self._marks.move_to_end(key)
        else:
            session.go_back(self._session.mark())
            if start is not None:
                set_up(session, start)
                self.keep(session, (), start)
        for at in range(known, len(moves)):
            try:
                session.play(moves[at])
            except IllegalMoveError as error:
                raise IllegalMoveError(f"move {at + 1}: {error}") from None
            self.keep(session, line[: at + 1], start)
        return session

    def keep(self, session: Session, moves: Sequence[int], start: SetUp | None = None) -> None:
        """Remember where a session stands now, after these moves since the start."""
        self._marks[start, tuple(moves)] = session.mark()
        while len(self._marks) > _MOST_KEPT:
            self._marks.popitem(last=False)
