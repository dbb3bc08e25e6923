"""Games that a user gives: read from SGF or text files, judged, and named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tessera.go import Rules
from tessera.play.referee import judge
from tessera.play.sgf import SgfGame, read_sgf
from tessera.play.sgf_setup import NO_BOARD, SetUp
from tessera.play.sgf_trees import is_sgf, shown
from tessera.setting_errors import SettingError
from tessera.vocabulary import Vocabulary

_MOST_MIB = 64
_MOST_LINES = 100  # of one file in a message


@dataclass(frozen=True, slots=True)
class NamedGame:
    """A game and what to call it: its file, and its line or number where a file has several.

    Attributes:
        name: of it.
        moves: as tokens; handicap stones are among them, with white's passes between.
        start: what stands before the first of them; None for the empty board.
    """

    name: str
    moves: list[int]
    start: SetUp | None = None


def read_games(
    paths: Sequence[str], board_size: int, rules: Rules, sees_board: bool = False
) -> tuple[list[NamedGame], list[str]]:
    """All games of SGF files, or of text files with one game a line, and warnings about them.

    In a text file moves are GTP vertices or ``pass``, with blanks between them; what follows a
    ``#`` is not read, nor are empty lines. ``-`` is standard input. Games are named after their
    file: ``a.txt:3`` is line 3, ``a.sgf:3`` the third game of several, ``a.sgf`` the only one.

    Args:
        paths: files, pipes or ``-``.
        board_size: n, of every game.
        rules: what the games are judged by, see ``referee.judge``.
        sees_board: whether a game may begin from a position that is set up.

    Raises:
        SettingError: if no file is named, or a line for every file that cannot be read and every
            game that cannot be used, which say where and why.
    """
    if not paths or "" in paths:
        raise SettingError("games must name at least one SGF or text file.")
    given = [(path, game) for path in paths for game in _games_of(path, board_size, sees_board)]
    readable = [game for _, game in given if isinstance(game, NamedGame)]
    moves, starts = [game.moves for game in readable], [game.start for game in readable]
    verdicts = iter(judge(moves, board_size, rules, starts))
    games: list[NamedGame] = []
    warnings: list[str] = []
    faults: list[tuple[str, str]] = []
    for path, game in given:
        if isinstance(game, str):
            faults.append((path, game))
            continue
        verdict = next(verdicts)
        if verdict.fault is not None:
            faults.append((path, f"{game.name}: {verdict.fault}"))
        elif verdict.warning is not None:
            warnings.append(f"{game.name}: {verdict.warning}")
        games.append(game)
    if faults:
        raise SettingError(*_lines(faults))
    return games, warnings


def _lines(faults: list[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with the games of each file; not too much of one."""
    for path, group in groupby(faults, lambda fault: fault[0]):
        lines = [line for _, line in group]
        yield from lines[:_MOST_LINES]
        if len(lines) > _MOST_LINES:
            yield f"{path}: {len(lines) - _MOST_LINES} more games cannot be used."


def _games_of(path: str, board_size: int, sees_board: bool) -> list[NamedGame | str]:
    """The games of a file, or in a game's or the whole file's place a line that says why not."""
    try:
        content = read_content(path, "games")
        if is_sgf(content):
            games = read_sgf(content, allows_set_up=True)
            return list(_sgf_games(path, games, board_size, sees_board))
        return list(_text_games(path, read_text(path, content), Vocabulary(board_size))) or [
            f"{path}: there is no game in it."
        ]
    except ValueError as error:
        return [str(error)]


def _sgf_games(
    path: str, games: list[SgfGame | ValueError], board_size: int, sees_board: bool
) -> Iterator[NamedGame | str]:
    for number, game in enumerate(games, 1):
        name = path if len(games) == 1 else f"{path}:{number}"
        if isinstance(game, ValueError):
            yield f"{name}: {game}"
        elif game.board_size != board_size:
            yield (
                f"{name}: the board must be {board_size}×{board_size}, the model's, "
                f"got {game.board_size}."
            )
        else:
            yield _from_its_start(name, game, sees_board)


def _from_its_start(name: str, game: SgfGame, sees_board: bool) -> NamedGame | str:
    """The game, or why it cannot be followed from its first move to its last."""
    if not game.set_ups:
        return NamedGame(name, game.moves)
    start, last = game.set_ups[0], game.set_ups[-1]
    if last.ply:
        return (
            f"{name}: move {last.ply + 1}: a position is set up in the middle of the game; "
            "a game must be played from its beginning."
        )
    if start.handicap:
        return NamedGame(name, [*start.handicap_moves(), *game.moves])
    if not sees_board:
        return f"{name}: a position is set up, and {NO_BOARD}."
    return NamedGame(name, game.moves, start)


def _text_games(path: str, text: str, vocabulary: Vocabulary) -> Iterator[NamedGame | str]:
    # Lines as an editor counts them; splitlines would also break at rarer characters.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        vertices = line.partition("#")[0].split()
        if vertices:
            name = f"{path}:{number}"
            try:
                yield NamedGame(name, moves_of(vertices, vocabulary))
            except ValueError as error:
                yield f"{name}: {error}"


def moves_of(vertices: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """The tokens of vertices; ValueError, which says the first one that is none."""
    moves = []
    for ply, vertex in enumerate(vertices, 1):
        try:
            moves.append(vocabulary.token(vertex if len(vertex) <= 20 else f"{vertex[:20]}…"))
        except ValueError as error:
            raise ValueError(f"move {ply}: {error}") from None
    return moves


def read_content(path: str, what: str) -> bytes:
    """A file's bytes, as UTF-8 if they are marked as Unicode of another form.

    Args:
        path: a file, a pipe or ``-`` for standard input.
        what: should be in it, for the message.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    is_stdin = path == "-"
    try:
        # Opened instead of asked for its kind: pipes are as good as files.
        with open(0 if is_stdin else path, "rb", closefd=not is_stdin) as file:
            content = file.read((_MOST_MIB << 20) + 1)
    except FileNotFoundError:
        raise ValueError(f"{what} must be files; there is no {path}.") from None
    except IsADirectoryError:
        raise ValueError(f"{what} must be files; {path} is a folder.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > _MOST_MIB << 20:
        raise ValueError(f"{path} must have at most {_MOST_MIB} MiB; split it.")
    # The byte order mark or, as JSON begins with ASCII too, the zeros among the first bytes.
    encoding = json.detect_encoding(content)
    if encoding == "utf-8":
        return content
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error.reason} ({encoding}).") from None


def read_text(path: str, content: bytes) -> str:
    """The text of a file that is no SGF; ValueError, naming the file, if it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line} is neither SGF nor text in UTF-8, got "
            f"{shown(content[error.start : error.start + 8])}."
        ) from None
