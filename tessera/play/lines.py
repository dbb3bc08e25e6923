"""Lines of one game beside each other: every position that was looked at is kept for a while."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

from tessera.go import IllegalMoveError
from tessera.play.session import Mark, Session

_MOST_KEPT = 1024  # positions; on 19×19 some 30 kB each, and what the model remembers


class Lines:
    """Games from the empty board that go apart anywhere, each followed by a session of its own.

    A line that goes on from one that was looked at costs its new moves alone.

    Args:
        session: a new game.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._marks: OrderedDict[tuple[int, ...], Mark] = OrderedDict()

    def session_at(self, moves: Sequence[int]) -> Session:
        """A session in which these tokens have been played; nobody else plays on in it.

        Raises:
            IllegalMoveError: saying the move's number, its vertex and the reason.
        """
        session = copy.copy(self._session)
        known = next((at for at in range(len(moves), 0, -1) if tuple(moves[:at]) in self._marks), 0)
        if known:
            session.go_back(self._marks[tuple(moves[:known])])
            self._marks.move_to_end(tuple(moves[:known]))
        else:
            session.go_back(self._session.mark())
        for at in range(known, len(moves)):
            try:
                session.play(moves[at])
            except IllegalMoveError as error:
                raise IllegalMoveError(f"move {at + 1}: {error}") from None
            self.keep(session)
        return session

    def keep(self, session: Session) -> None:
        """Remember where a session stands now."""
        self._marks[tuple(session.moves)] = session.mark()
        while len(self._marks) > _MOST_KEPT:
            self._marks.popitem(last=False)
