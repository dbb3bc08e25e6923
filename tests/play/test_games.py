"""Files of games as people have them: text and SGF, pipes, encodings, and what is no game."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.go import RULES, Rules
from tessera.play.games import NamedGame, read_games
from tessera.play.sgf import SgfGame, read_sgf
from tessera.vocabulary import Vocabulary

FULL = RULES["full"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def games_of(
    content: str | bytes, name: str = "a.txt", board_size: int = 5
) -> list[tuple[str, str]]:
    """Names and moves of a file's games."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    games, warnings = read_games([name], board_size, FULL)
    assert not warnings
    vocabulary = Vocabulary(board_size)
    return [(game.name, " ".join(map(vocabulary.vertex, game.moves))) for game in games]


def faults_of(*paths: str, board_size: int = 5, rules: Rules = FULL) -> list[str]:
    """The lines that are said about files."""
    with pytest.raises(ValueError) as error:
        read_games(paths, board_size, rules)
    return str(error.value).split("\n")


def test_a_text_file_has_a_game_a_line() -> None:
    content = "# two games\n\nA1\tb2  PASS C3 # the end\n  E5\n"
    assert games_of(content) == [("a.txt:3", "A1 B2 pass C3"), ("a.txt:4", "E5")]


def test_an_sgf_file_has_its_name_or_its_games_have_numbers() -> None:
    assert games_of("(;SZ[5];B[ae])") == [("a.txt", "A1")]
    assert games_of("(;SZ[5];B[ae])\n(;SZ[5];B[ad])") == [("a.txt:1", "A1"), ("a.txt:2", "A2")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_an_editor_does(end: str) -> None:
    content = f"A1\u2028B1\x0cC1{end}{end}A2"
    assert games_of(content) == [("a.txt:1", "A1 B1 C1"), ("a.txt:3", "A2")]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_unicode_is_read_in_every_form(encoding: str) -> None:
    assert games_of("A1 B2 # é\nC3".encode(encoding)) == [("a.txt:1", "A1 B2"), ("a.txt:2", "C3")]
    for charset in ("", "CA[UTF-16]", "CA[Shift_JIS]"):
        content = f"(;{charset}SZ[5]C[é 表];B[aa])".encode(encoding)
        assert games_of(content) == [("a.txt", "A5")]


def test_a_remark_makes_no_sgf_of_a_text() -> None:
    assert games_of("# a wink (;\nA1") == [("a.txt:2", "A1")]


def test_pipes_are_as_good_as_files() -> None:
    read, write = os.pipe()
    os.write(write, b"A1 B1\n")
    os.close(write)
    (game,), _ = read_games([f"/dev/fd/{read}"], 5, FULL)
    assert game == NamedGame(f"/dev/fd/{read}:1", [20, 21])
    os.close(read)
    os.mkfifo("fifo")
    writer = threading.Thread(target=Path("fifo").write_text, args=("(;SZ[5];B[aa])",))
    writer.start()
    (game,), _ = read_games(["fifo"], 5, FULL)
    writer.join()
    assert game == NamedGame("fifo", [0])


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("", ["a: there is no game in it."]),
        ("# nothing\n", ["a: there is no game in it."]),
        ("A1\nA1 F6\n", ["a:2: move 2: vertex must be A1 to E5 or pass, got 'F6'."]),
        ("A1 A1\nB1\nC1 F6", ["a:1: move 2: A1 is occupied.", "a:3: move 2: vertex must be "]),
        (f"A1 {9000 * '9'}", [f"a:1: move 2: vertex must be A1 to E5 or pass, got '{20 * '9'}…'."]),
        (f"A{9000 * '9'}", [f"a:1: move 1: vertex must be A1 to E5 or pass, got 'A{19 * '9'}…'."]),
        (b"\0\0\0\0\0", ["a is no text: truncated data (utf-32-be)."]),
        (b"A1 B\0", ["a:1: move 2: vertex must be A1 to E5 or pass, got 'B\\x00'."]),
        (b"A1\n\x80\xff\x07", ["a: line 2 is neither SGF nor text in UTF-8, got \\x80\\xff\\x07."]),
        (b"\xff\xfeA\0\0", ["a is no text: truncated data (utf-16)."]),
        ("(;SZ[9];B[aa])", ["a: the board must be 5×5, the model's, got 9."]),
        ("(;B[aa])", ["a: the board must be 5×5, the model's, got 19."]),
        (
            "(;SZ[5];B[aa])(;SZ[5];B[aa];W[aa])(;SZ[5];B)(;SZ[5];B[ff])(;SZ[5];B[];W[];B[])",
            [
                "a:2: move 2: A5 is occupied.",
                "a:3: line 1: property with no values.",
                "a:4: move 1: B[ff] is no point of a 5×5 board.",
                "a:5: move 3: the game is over after two passes.",
            ],
        ),
    ],
)
def test_everything_that_is_wrong_with_a_file_is_said(
    content: str | bytes, lines: list[str]
) -> None:
    Path("a").write_bytes(content if isinstance(content, bytes) else content.encode())
    said = faults_of("a")
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True)), said


def test_every_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("folder").mkdir()
    Path("good").write_text("A1")
    Path("wrong").write_text("A1 A1")
    assert faults_of("none", "folder", "good", "good/x", "wrong", 300 * "x", "none") == [
        "games must be files; there is no none.",
        "games must be files; folder is a folder.",
        "good/x cannot be read: Not a directory.",
        "wrong:1: move 2: A1 is occupied.",
        f"{300 * 'x'} cannot be read: File name too long.",
        "games must be files; there is no none.",
    ]
    monkeypatch.setattr("tessera.play.games._MOST_MIB", 1)
    Path("good").write_text("A1 " * 400_000)
    assert faults_of("/dev/zero", "good") == [
        "/dev/zero must have at most 1 MiB; split it.",
        "good must have at most 1 MiB; split it.",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named() -> None:
    Path("mine").write_text("A1")
    Path("mine").chmod(0)
    assert faults_of("mine") == ["mine cannot be read: Permission denied."]


def test_a_file_of_something_else_is_not_repeated_whole() -> None:
    Path("poem").write_text("not a game\n" * 1000)
    Path("wrong").write_text("A1 A1")
    lines = faults_of("poem", "wrong")
    assert len(lines) == 102
    assert lines[100:] == [
        "poem: 900 more games cannot be used.",
        "wrong:1: move 2: A1 is occupied.",
    ]


def test_a_repetition_is_a_warning_and_the_game_is_kept() -> None:
    Path("a").write_text("C3\nC3 A2 pass B1 A1 C2\n")
    games, warnings = read_games(["a"], 3, RULES["tromp-taylor"])
    assert [game.name for game in games] == ["a:1", "a:2"]
    text = "A1 repeats a position, which the model's rules forbid (ko positional)."
    assert warnings == [f"a:2: move 5: {text}"]


# Beginnings of the mutations below.
_VALID = [
    b"(;FF[4]GM[1]SZ[3]CA[UTF-8]C[a \\] b];B[aa];W[bb](;B[cc];W[tt])(;B[]C[x]))\n(;SZ[3];B[ab])",
    "(;CA[Shift_JIS]SZ[3]PB[表ゾ];B[aa]C[表];W[bb])".encode("cp932"),
    "(;SZ[3]C[é];B[aa];W[bb])".encode("utf-16"),
    b"From: x\n\n(;FF[3]GM[1]SiZe[3];Black[aa];White[bb])\n--\nme",
    b"# games\nA1 b2 PASS c3 # x\r\n\nC2 B1\n",
]
_PIECES = [b"(", b")", b";", b"[", b"]", b"\\", b"\0", b"\n", b"\xff", b"B[aa]", b"(;", b"AB[cc]"]
_PIECES += [b"CA[hz]", b"CA[none]", b"SZ[3]", b"#", b"pass", b" ", b"\x1b$B", b"A1", b"99999", b":"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = draw(st.sampled_from(_VALID))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(content))), draw(st.integers(0, 3))
        piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=3))
        content = content[:at] + piece + content[at + length :]
    return content


@settings(max_examples=150, deadline=None)
@given(content=damaged())
def test_a_damaged_file_has_games_or_reasons(content: bytes) -> None:
    Path("a").write_bytes(content)
    try:
        games, _ = read_games(["a"], 3, FULL)
    except ValueError as error:
        for line in str(error).split("\n"):
            assert line.startswith("a") and line.endswith(".") and len(line) > 8, line
    else:
        assert games and all(isinstance(game, NamedGame) for game in games)


def some_moves(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size * size), max_size=12)


@settings(max_examples=50, deadline=None)
@given(games=st.lists(some_moves(9), min_size=1, max_size=3), noise=st.sampled_from([" ", "\r\n"]))
def test_moves_come_back_as_they_were_written(games: list[list[int]], noise: str) -> None:
    def node(ply: int, token: int) -> str:
        point = "" if token == 81 else f"{chr(97 + token % 9)}{chr(97 + token // 9)}"
        return f"{noise};{noise}{'BW'[ply % 2]}{noise}[{point}]"

    def tree(moves: list[int]) -> str:
        return f"({noise};SZ[9]{''.join(node(ply, token) for ply, token in enumerate(moves))})"

    content = noise.join(map(tree, games))
    assert read_sgf(content.encode()) == [SgfGame(9, moves) for moves in games]
