"""SGF files: what is written can be read, and what cannot be used is said."""

from __future__ import annotations

import pytest
from sgfmill import sgf, sgf_moves

from tessera.go import play_games
from tessera.play.sgf import read_sgf, write_sgf
from tessera.vocabulary import Vocabulary


def test_written_games_are_read_again() -> None:
    record = play_games("rules", range(3), seed=4, board_size=9)
    for game in range(3):
        back = read_sgf(write_sgf(record, game))
        assert back.board_size == 9
        assert back.moves == record.moves[game, : int(record.lengths[game])].tolist()


def test_another_program_sees_the_same_stones_and_result() -> None:
    record = play_games("uniform", range(1), seed=4, board_size=9)
    document = sgf.Sgf_game.from_bytes(write_sgf(record, 0))
    board, plays = sgf_moves.get_setup_and_moves(document)
    for colour, point in plays:
        if point is not None:
            board.play(*point, colour)
    assert board.area_score() - document.get_komi() == float(record.results[0])
    winner = "b" if record.results[0] > 0 else "w"
    assert document.get_winner() == winner


def test_vertices_keep_their_names() -> None:
    game = read_sgf(b"(;GM[1]SZ[19];B[pd];W[dp];B[])")
    assert [Vocabulary(19).vertex(move) for move in game.moves] == ["Q16", "D4", "pass"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"hello", "SGF"),
        (b"(;SZ[9];B[aa];B[bb])", "move 2 is b's; colours must alternate"),
        (b"(;SZ[9]AB[aa];W[bb])", "set-up position"),
        (b"(;SZ[25];B[aa])", "board size must be 2 to 19, got 25"),
    ],
)
def test_what_cannot_be_used_is_said(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_sgf(text)
