"""A session and an SGF game: led to one of its positions, and written as one."""

from __future__ import annotations

from sgfmill import sgf

from tessera.go import IllegalMoveError
from tessera.play.session import Session
from tessera.play.sgf import SgfGame, sgf_document, sgf_point
from tessera.play.sgf_setup import NO_BOARD, SetUp
from tessera.transfers import to_host


def lead_to(session: Session, game: SgfGame, plies: int | None = None) -> int:
    """Bring a session to the position of a game after so many of its moves.

    Handicap stones are moves of black's between which white passes, as the model reads them; any
    other position that is set up is the session's without a history, see ``Session.set_position``.

    Args:
        session: by the game's board size; a new game begins in it.
        game: with its set-ups.
        plies: of its moves; None for all.

    Returns:
        How many of these moves were played, since the last set-up.

    Raises:
        ValueError: if the model cannot be told of a set-up, or that cannot be.
        IllegalMoveError: saying the move, and why it is illegal; the session is there then.
    """
    plies = len(game.moves) if plies is None else min(plies, len(game.moves))
    session.clear()
    found = game.set_up_before(plies)
    if found is not None:
        set_up(session, found)
    first = 0 if found is None else found.ply
    for ply, token in enumerate(game.moves[first:plies], first + 1):
        try:
            session.play(token)
        except IllegalMoveError as error:
            raise IllegalMoveError(f"move {ply}: {error}") from None
    return plies - first


def session_document(session: Session) -> sgf.Sgf_game:
    """The session's game as SGF, from the position that was set if one was."""
    size, start = session.board_size, session.start
    turn = int(start.turn)
    document = sgf_document(size, session.rules, session.moves, turn)
    if not session.has_history:
        root = document.get_root()
        black, white, _ = to_host(start.boards[0], "session").flatten(1).tolist()
        root.set_setup_stones(
            *([sgf_point(p, size) for p, stone in enumerate(s) if stone] for s in (black, white))
        )
        root.set("PL", "bw"[turn])
    return document


def set_up(session: Session, found: SetUp) -> None:
    """Begin a new game at a position, with handicap as moves of black's.

    Raises:
        ValueError: if the model cannot be told of it, or it cannot be; the game is unchanged then.
    """
    if found.handicap:
        session.set_handicap(found.handicap_moves())
        return
    if not session.sees_board:
        raise ValueError(f"a position is set up, and {NO_BOARD}.")
    session.set_position(found.boards(), found.turn)
