"""Games as SGF files: what other Go programs read and write.

The parser and the serialiser are sgfmill's.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgfmill import sgf, sgf_moves

from tessera.go import GameRecord
from tessera.vocabulary import Vocabulary, check_board_size


@dataclass(frozen=True, slots=True)
class SgfGame:
    """The main line of an SGF game: its board size and its moves as tokens."""

    board_size: int
    moves: list[int]


def read_sgf(text: bytes) -> SgfGame:
    """The main line of an SGF game.

    Args:
        text: the file's content.

    Raises:
        ValueError: if it is no SGF game of Go, begins from a set-up position (handicap included),
            the colours do not alternate from black, or the board's size is not 2 to 19.
    """
    game = sgf.Sgf_game.from_bytes(text)
    size = game.get_size()
    check_board_size(size, "the SGF's board size")
    board, plays = sgf_moves.get_setup_and_moves(game)
    if board.list_occupied_points():
        raise ValueError("the SGF begins from a set-up position; only games from an empty board.")
    vocabulary = Vocabulary(size)
    moves = []
    for ply, (colour, point) in enumerate(plays):
        if colour != "bw"[ply % 2]:
            raise ValueError(f"the SGF's move {ply + 1} is {colour}'s; colours must alternate.")
        if point is None:
            moves.append(vocabulary.pass_token)
        else:
            row, column = point  # sgfmill counts rows from the bottom
            moves.append((size - 1 - row) * size + column)
    return SgfGame(size, moves)


def write_sgf(record: GameRecord, game: int) -> bytes:
    """One game of a record as an SGF file.

    Args:
        record: finished games.
        game: index into the record, 0 to G - 1.
    """
    size = record.board_size
    result = float(record.results[game])
    document = sgf.Sgf_game(size=size)
    root = document.get_root()
    root.set("KM", record.rules.komi)
    root.set("RU", f"ko {record.rules.ko}, suicide {'on' if record.rules.suicide else 'off'}")
    for colour in ("PB", "PW"):
        root.set(colour, f"tessera {record.player}")
    root.set("GN", f"seed {record.seed}, game {int(record.numbers[game])}")
    root.set("RE", "0" if result == 0 else f"{'B' if result > 0 else 'W'}+{abs(result):g}")
    for ply, token in enumerate(record.moves[game, : int(record.lengths[game])].tolist()):
        row, column = divmod(token, size)
        point = None if token == size * size else (size - 1 - row, column)
        document.extend_main_sequence().set_move("bw"[ply % 2], point)
    return document.serialise()
