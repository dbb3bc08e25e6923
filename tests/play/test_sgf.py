"""SGF files: what is written can be read, and what cannot be used is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sgfmill import sgf, sgf_moves

from tessera.go import RULES, Rules, play_games
from tessera.play.sgf import SgfGame, read_sgf, record_document
from tessera.vocabulary import Vocabulary


def moves_of(content: bytes) -> list[list[str]]:
    """The moves of all games, as vertices; no game may have a fault."""
    moves = []
    for game in read_sgf(content):
        assert isinstance(game, SgfGame), game
        moves.append([Vocabulary(game.board_size).vertex(move) for move in game.moves])
    return moves


def faults_of(content: bytes) -> list[str]:
    """What is wrong with each game, empty where nothing is."""
    return ["" if isinstance(game, SgfGame) else str(game) for game in read_sgf(content)]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("size", "games"), [(2, 3), (9, 3), (19, 1)])
def test_written_games_are_read_again(size: int, games: int, rules: str) -> None:
    shorter = replace(RULES[rules], max_moves=100)
    record = play_games("rules", range(games), seed=4, board_size=size, rules=shorter)
    content = b"".join(record_document(record, game).serialise() for game in range(games))
    assert read_sgf(content) == [
        SgfGame(size, record.moves[game, : int(record.lengths[game])].tolist())
        for game in range(games)
    ]


def test_another_program_sees_the_same_stones_and_result() -> None:
    record = play_games("uniform", range(1), seed=4, board_size=9)
    document = sgf.Sgf_game.from_bytes(record_document(record, 0).serialise())
    board, plays = sgf_moves.get_setup_and_moves(document)
    for colour, point in plays:
        if point is not None:
            board.play(*point, colour)
    assert board.area_score() - document.get_komi() == float(record.results[0])
    winner = "b" if record.results[0] > 0 else "w"
    assert document.get_winner() == winner


@pytest.mark.parametrize(("komi", "margin"), [(6.7, "6.7"), (-0.25, "0.25"), (1e9, "1000000000")])
def test_results_are_written_without_exponents_and_as_they_are(komi: float, margin: str) -> None:
    record = play_games("uniform", range(1), seed=4, board_size=2, rules=Rules(komi=komi))
    record = replace(record, results=record.results * 0 - komi)
    root = sgf.Sgf_game.from_bytes(record_document(record, 0).serialise()).get_root()
    assert root.get("RE") == f"{'W' if komi > 0 else 'B'}+{margin}"
    assert root.get("KM") == komi
    drawn = record_document(replace(record, results=record.results * 0), 0).serialise()
    assert sgf.Sgf_game.from_bytes(drawn).get_root().get("RE") == "0"


def test_what_was_captured_is_written_where_other_programs_would_capture_more() -> None:
    record = play_games("uniform", range(1), seed=4, board_size=3, rules="phase2")
    rules = sgf.Sgf_game.from_bytes(record_document(record, 0).serialise()).get_root().get("RU")
    assert rules == "ko simple, suicide off, only single stones are captured"


def test_how_it_was_scored_is_written_where_other_programs_would_count_otherwise() -> None:
    rules = Rules(score="pass_alive")
    record = play_games("uniform", range(1), seed=4, board_size=3, rules=rules)
    written = sgf.Sgf_game.from_bytes(record_document(record, 0).serialise()).get_root().get("RU")
    assert written == "ko positional, suicide off, pass-alive territory without its dead stones"


def test_vertices_keep_their_names() -> None:
    assert moves_of(b"(;GM[1]SZ[19];B[pd];W[dp];B[])") == [["Q16", "D4", "pass"]]


@pytest.mark.parametrize(
    ("content", "moves"),
    [
        (b"(;SZ[5];B[aa])\r\n(;SZ[5];B[bb];W[cc])", [["A5"], ["B4", "C3"]]),
        (b"(;SZ[5](;B[aa](;W[bb])(;W[cc]))(;B[dd]))", [["A5", "B4"]]),
        (b"(;SZ[5]B[aa];W[bb])", [["A5", "B4"]]),
        (b"(;SZ[5])", [[]]),
        (b"(;SZ[5:5];B[tt];W[ ])", [["pass", "pass"]]),
        (b"(;B[aa])", [["A19"]]),
        (b"(;FF[3]GaMe[1]SiZe[5];Black[aa]\n;White[bb]BlackTerritory[cc])", [["A5", "B4"]]),
        (b"(;SZ[5]AB[]HA[0];B[aa]C[a \\] b (;W[bb\\])])", [["A5"]]),
        (b"From: a (b)\nSubject: [go]\n\n(;SZ[5];B[aa])\n-- \nc [d] (e)", [["A5"]]),
        (b"(;SZ[5];B[aa]))\x1a\0", [["A5"]]),
    ],
)
def test_what_other_programs_write_is_read(content: bytes, moves: list[list[str]]) -> None:
    assert moves_of(content) == moves


@pytest.mark.parametrize("escaped", [False, True], ids=["as it is", "escaped"])
@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        # The second byte of 表, 能 and 因, 許 and 埈, 奭 is a backslash or a bracket.
        ("Shift_JIS", "cp932", "表"),
        ("SJIS", "cp932", "ソ能ゾ"),
        ("Big5", "big5", "許功"),
        ("big5", "big5", "本因坊 因"),
        ("GB18030", "gb18030", "金昞俊"),
        ("gb2312", "gb18030", "朴埈奭"),
        ("GBK", "gb18030", "奭"),
    ],
)
def test_bytes_of_a_character_are_no_brackets(
    charset: str, codec: str, text: str, escaped: bool
) -> None:
    value = text.encode(codec)
    assert b"\\" in value or b"]" in value or b"[" in value
    if escaped:
        value = value.replace(b"\\", b"\\\\").replace(b"]", b"\\]")
    content = b"(;PB[%s]CA[%s]SZ[5];B[aa]C[%s];W[bb];B[cc])" % (value, charset.encode(), value)
    assert moves_of(content) == [["A5", "B4", "C3"]]


def test_a_charset_with_shifts_is_read() -> None:
    text = "本因坊戦".encode("iso2022_jp")
    content = b"(;CA[ISO-2022-JP]SZ[5]GN[%s];B[aa]C[%s];W[bb])" % (text, text)
    assert moves_of(content) == [["A5", "B4"]]


def test_a_wrong_charset_does_not_hide_moves() -> None:
    # UTF-8 that says it is something else, as converted files do.
    content = "(;CA[GBK]SZ[5]PB[あ];B[aa]C[い];W[bb];B[cc])".encode()
    assert moves_of(content) == [["A5", "B4", "C3"]]


def test_an_unknown_charset_is_refused_only_where_it_matters() -> None:
    assert moves_of(b"(;CA[none]SZ[5];B[aa])") == [["A5"]]
    (fault,) = faults_of("(;CA[none]SZ[5];B[aa]C[é])".encode())
    assert fault == "CA[none] is no charset that Python knows; save the file as UTF-8."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "no game begins in it; one begins with (;."),
        (b"(;SZ[9];B[aa];B[bb])", "move 2: B[bb] is black's; colours must alternate from black."),
        (b"(;SZ[9];W[aa])", "move 1: W[aa] is white's; colours must alternate from black."),
        (b"(;SZ[25];B[aa])", "the SGF's board size must be 2 to 19, got 25."),
        (b"(;SZ[1])", "the SGF's board size must be 2 to 19, got 1."),
        (b"(;SZ[5:7];B[aa])", "SZ[5:7] is not square."),
        (b"(;SZ[1_9];B[aa])", "SZ[1_9] is no board size."),
        (b"(;SZ[];B[aa])", "SZ[] is no board size."),
        (b"(;SZ[9]SZ[19];B[aa])", "SZ[9][19] must have one value."),
        (b"(;FF[4];SZ[9];B[aa])", "move 1: SZ[9] must stand in the root."),
        (b"(;GM[3]SZ[9];B[aa])", "GM[3] is another game; Go is GM[1]."),
        (b"(;SZ[5];B[cc][bb])", "move 1: a node must have one move, got B[cc][bb]."),
        (b"(;SZ[5];B[aa];W[cc]W[bb])", "move 2: a node must have one move, got W[cc][bb]."),
        (b"(;SZ[5];B[cc]W[bb])", "move 1: a node must have one move, got B[cc]W[bb]."),
        (b"(;SZ[5];B[aa];W[ff])", "move 2: W[ff] is no point of a 5×5 board."),
        (b"(;SZ[5];B[a])", "move 1: B[a] is no point of a 5×5 board."),
        (b"(;SZ[5];B[C3])", "move 1: B[C3] is no point of a 5×5 board."),
        (b"(;SZ[5];B[a\n])", "move 1: B[a\\n] is no point of a 5×5 board."),
        (b"(;SZ[5];b[aa])", "move 1: [aa] has a name without capital letters."),
        (
            b"(;SZ[9]AB[aa][bb]HA[2];W[bb])",
            "the root: AB[aa][bb] sets up a position; a game must begin from an empty board, "
            "without handicap stones.",
        ),
        (
            b"(;SZ[9];B[aa];AW[bb])",
            "move 2: AW[bb] sets up a position; a game must begin from an empty board, "
            "without handicap stones.",
        ),
        (b"(;SZ[9];B[aa]", "the file ends inside a game; a ) is missing."),
        (b"(;SZ[9];B[aa]\n;W[bb", "line 2: [bb has no ] at its end."),
        (b"(;SZ[9]\nUS[a[3d]]RE[?])", "line 2: ]RE[?]) is no SGF; a ] in a text is written \\]."),
        (b"(SZ[9];B[aa])", "line 1: (SZ[9];B[aa]) is outside of every game."),
        (b"\n(;SZ[9];B;W[aa])", "line 2: property with no values."),
        (b"(;C[" + 99 * b"x" + b"]B[" + 99 * b"y" + b"])", f"move 1: B[{37 * 'y'}… is no point of"),
    ],
)
def test_what_cannot_be_used_is_said(content: bytes, message: str) -> None:
    (fault,) = faults_of(content)
    assert fault.startswith(message), fault


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"(;SZ[5];B[aa])(;SZ[5];B[zz])(;SZ[5];B[bb])", [1]),
        (b"(;SZ[5];B)(;SZ[5];B[bb])", [0]),
        (b"(;SZ[5];B[aa]);W[bb])(;SZ[5];B[bb])", [1]),
        (b"(;SZ[5];B[aa])(B[bb])(;SZ[5];B[bb])", [1]),
        (b"(;SZ[5];B[aa])(;SZ[5];B[bb]", [1]),
        (b";SZ[5];B[aa])(;SZ[5];B[bb])", [0]),
    ],
)
def test_no_game_of_a_collection_is_passed_over(content: bytes, wrong: list[int]) -> None:
    assert [number for number, fault in enumerate(faults_of(content)) if fault] == wrong


def test_deep_and_many_games_are_no_burden() -> None:
    depth = 20_000  # far beyond what may call itself
    assert faults_of(b"(;" * depth) == ["the file ends inside a game; a ) is missing."]
    assert moves_of(b"(;SZ[5]" + b"(;" * depth + b";B[aa]" + b")" * depth + b")") == [["A5"]]
    assert moves_of(b"(;SZ[5];B[aa])" * 1000) == [["A5"]] * 1000
