"""Which position is meant: that of an SGF file, of given moves, or of a board drawn in letters."""

from __future__ import annotations

import contextlib

import torch

from tessera.commands.map.request import Request
from tessera.go import IllegalMoveError
from tessera.play import sgf_session
from tessera.play.diagram import read_diagram
from tessera.play.games import moves_of, read_content, read_text
from tessera.play.map import COLOURS
from tessera.play.session import Session
from tessera.play.sgf import SgfGame, read_sgf
from tessera.play.sgf_trees import is_sgf
from tessera.setting_errors import SettingError
from tessera.vocabulary import MAX_BOARD_SIZE, Vocabulary

_OPTION = "--board_size"


def lead_to(session: Session, request: Request) -> float | None:
    """Bring a new session to the position that is meant; the komi that a file says, if it does.

    Raises:
        SettingError: a line that says what is wrong with the file, or with which move.
    """
    try:
        if request.moves is not None:
            _play(session, "--moves", _given(session, request.moves))
            return None
        assert request.file is not None
        content = read_content(request.file, "positions")
        if is_sgf(content):
            game = _game_of(session, request, content)
            try:
                sgf_session.lead_to(session, game, request.move)
            except ValueError as error:
                raise SettingError(f"{request.file}: {error}") from error
            return game.komi
        else:
            _set_up(session, request, read_text(request.file, content))
        return None
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(str(error)) from error


def _given(session: Session, moves: str) -> list[int]:
    names = moves.replace(",", " ").split()
    try:
        return moves_of(names, session.vocabulary)
    except ValueError as error:
        told = f"--moves: {error}"
        with contextlib.suppress(ValueError):  # no point of any board
            if session.can_be(MAX_BOARD_SIZE) and moves_of(names, Vocabulary(MAX_BOARD_SIZE)):
                told = f"{told[:-1]}; the model can be asked on a larger board with {_OPTION}."
        raise SettingError(told) from error


def _play(session: Session, name: str, moves: list[int]) -> None:
    for ply, move in enumerate(moves, 1):
        try:
            session.play(move)
        except IllegalMoveError as error:
            raise SettingError(f"{name}: move {ply}: {error}") from error


def _game_of(session: Session, request: Request, content: bytes) -> SgfGame:
    name, games = request.file, read_sgf(content, allows_set_up=True)
    if request.to_play is not None:
        raise SettingError(f"--to_play is of a board; {name} is an SGF file, whose moves say it.")
    if request.game is None and len(games) > 1:
        raise SettingError(
            f"{name} has {len(games)} games; --game must say which, 1 for the first."
        )
    number = request.game or 1
    if number > len(games):
        raise SettingError(
            f"--game must be at most {len(games)}, the games of {name}, got {number}."
        )
    game = games[number - 1]
    if isinstance(game, ValueError):
        raise SettingError(f"{name}: {game}")
    _check_size(session, str(name), game.board_size)
    most = len(game.moves)
    if request.move is not None and request.move > most:
        raise SettingError(f"--move must be 0 to {most}, the moves of {name}, got {request.move}.")
    return game


def _set_up(session: Session, request: Request, text: str) -> None:
    name = request.file
    for option, value in (("--game", request.game), ("--move", request.move)):
        if value is not None:
            raise SettingError(f"{option} is of an SGF file; {name} is none.")
    try:
        rows = read_diagram(text)
    except ValueError as error:
        raise SettingError(f"{name} is neither SGF nor a board: {error}") from error
    if request.to_play is None:
        raise SettingError("--to_play must say who moves on the board, black or white; got none.")
    _check_size(session, str(name), len(rows))
    if not session.sees_board:
        raise SettingError(
            f"{name}: the model reads moves and does not see a board (model.features board does); "
            "give it the game as SGF or --moves."
        )
    stones = torch.tensor(rows)
    try:
        session.set_position(torch.stack([stones > 0, stones < 0]), COLOURS.index(request.to_play))
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from error


def _check_size(session: Session, name: str, size: int) -> None:
    wanted = session.board_size
    if size != wanted:
        hint = (
            f"; the model can be asked on it with {_OPTION} {size}" if session.can_be(size) else ""
        )
        raise SettingError(
            f"{name}: the board must be {wanted}×{wanted}, the model's, got {size}{hint}."
        )
