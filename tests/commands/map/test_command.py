"""``tessera map`` as it is typed: every way to name a position, every file, every mistake."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from sgfmill import sgf

from tessera.play.session import Session
from tests.runs import SMALL, fit, tessera
from tests.terminal import on_terminal_here

BOARD = ("--model.features", "board", "--model.head", "points", "--model.outcome", "win_and_score")
DIAGRAM = "   A B C\n 3 . . . 3\n 2 O X . 2     WHITE (O) has captured 0 stones\n 1 . O X 1\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with two models of 3×3 games: small reads moves, board sees the board."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--trainer.max_steps", 1) == 0
        assert fit("--trainer.max_steps", 1, "--run_name", "board", *BOARD) == 0
        yield folder


@pytest.fixture(autouse=True)
def in_a_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def asked(*arguments: object, run: str = "small") -> int:
    return tessera("map", "--ckpt_path", "last", "--run_name", run, *arguments)


@contextmanager
def standard_input(content: str) -> Iterator[None]:
    read, write = os.pipe()
    os.write(write, content.encode())
    os.close(write)
    before = os.dup(0)
    os.dup2(read, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(read)


def figures(capsys: pytest.CaptureFixture, *arguments: object, run: str = "small") -> Any:
    """What ``--json -`` prints."""
    capsys.readouterr()
    assert asked(*arguments, "--json", "-", run=run) == 0
    return json.loads(capsys.readouterr().out)


def test_a_game_is_named_by_its_moves_or_by_an_sgf_file(capsys: pytest.CaptureFixture) -> None:
    Path("a.sgf").write_text("(;SZ[3];B[ab];W[bb](;B[ca];W[])(;B[cb]))")
    Path("two.sgf").write_text("(;SZ[3];B[aa])\n(;SZ[3];B[ab];W[bb];B[ca])")
    by_moves = figures(capsys, "--moves", "A2 b2,C3")
    assert by_moves["moves"] == ["A2", "B2", "C3"] and by_moves["to_play"] == "white"
    assert by_moves["board"] == ["..X", "XO.", "..."]
    assert figures(capsys, "a.sgf", "--move", 3) == by_moves
    assert figures(capsys, "two.sgf", "--game", 2) == by_moves
    with standard_input("(;SZ[3];B[ab];W[bb];B[ca])"):
        assert figures(capsys, "-") == by_moves
    assert figures(capsys, "a.sgf")["moves"] == ["A2", "B2", "C3", "pass"]
    empty = figures(capsys, "a.sgf", "--move", 0)
    assert empty == figures(capsys, "--moves", "") and empty["moves"] == []


def test_a_board_is_read_from_a_file_or_standard_input(capsys: pytest.CaptureFixture) -> None:
    Path("board.txt").write_text(DIAGRAM)
    white = figures(capsys, "board.txt", "--to_play", "white", run="board")
    assert white["board"] == ["...", "OX.", ".OX"] and white["to_play"] == "white"
    assert white["moves"] is None and 0 < white["win"] < 1
    with standard_input("...\nOX.\n.OX\n"):
        assert figures(capsys, "-", "--to_play", "white", run="board") == white
    black = figures(capsys, "board.txt", "--to_play", "black", run="board")
    assert black["to_play"] == "black" and black["probabilities"] != white["probabilities"]


def test_a_position_that_an_sgf_file_sets_up_is_that_of_the_board(
    capsys: pytest.CaptureFixture,
) -> None:
    Path("board.txt").write_text(DIAGRAM)
    Path("set_up.sgf").write_text("(;SZ[3]KM[99]AB[bb][cc]AW[ab][bc]PL[W];W[ba];B[ca])")
    drawn = figures(capsys, "board.txt", "--to_play", "white", run="board")
    assert figures(capsys, "set_up.sgf", "--move", 0, run="board") == {
        **drawn,
        "moves_since_set_up": [],
    }
    found = figures(capsys, "set_up.sgf", "--playouts", 10, run="board")
    assert found["board"] == [".OX", "OX.", ".OX"] and found["to_play"] == "white"
    assert found["moves"] is None and found["moves_since_set_up"] == ["B3", "C3"]
    assert found["playouts"]["win"] == 1 and found["playouts"]["score"] > 80, "by the file's komi"
    assert asked("set_up.sgf", run="board") == 0
    told = capsys.readouterr().out
    assert told.startswith("White to play after 2 moves, set up before, the last of them C3.")
    assert "What was played before is unknown." in told


def test_handicap_stones_are_moves(capsys: pytest.CaptureFixture) -> None:
    Path("handicap.sgf").write_text("(;SZ[3]HA[2]AB[aa][cc];W[bb])")
    found = figures(capsys, "handicap.sgf")
    assert found["moves"] == ["A3", "pass", "C1", "B2"]
    assert found == figures(capsys, "--moves", "A3 pass C1 B2")


def test_every_line_counts_the_moves_of_a_handicap_game_alike(
    capsys: pytest.CaptureFixture,
) -> None:
    Path("handicap.sgf").write_text("(;SZ[3]HA[2]AB[aa][cc];W[bb];B[ab])")
    begins = {
        0: "White to play, 2 handicap stones.",
        1: "Black to play after 1 move and 2 handicap stones, the last of them B2.",
        2: "White to play after 2 moves and 2 handicap stones, the last of them A2.",
    }
    for number, said in begins.items():
        capsys.readouterr()
        files = ["--output", "map.svg", "--sgf", "map.sgf", "--every_move"]
        assert asked("handicap.sgf", "--move", number, *files) == 0
        assert capsys.readouterr().out.splitlines()[0] == said
        title = said.partition(", the last")[0].removesuffix(".")
        assert title in Path("map.svg").read_text()
        assert title[0].lower() + title[1:] in Path("map.sgf").read_text()
    # The numbers of what is refused are the file's too.
    assert asked("handicap.sgf", "--move", 3) == 2
    assert "--move must be 0 to 2, the moves of handicap.sgf" in capsys.readouterr().err
    Path("handicap.sgf").write_text("(;SZ[3]HA[2]AB[aa][cc];W[aa])")
    assert asked("handicap.sgf") == 2
    assert "handicap.sgf: move 1: A3 is occupied" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["small", "board"])
def test_the_figures_are_of_the_legal_moves_and_sum_to_one(
    capsys: pytest.CaptureFixture, run: str
) -> None:
    found = figures(capsys, "--moves", "B1 B2 C2 A2 A1 C1", run=run)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert found["illegal"] == ["B1"], "superko"
    assert list(found["probabilities"]) == ["A3", "B3", "C3", "A1", "pass"]
    assert 0 < found["legal_mass"] < 1
    assert found["settled"] == {"black": [], "white": []}
    assert (found["win"] is None) is (run == "small")


def test_it_is_printed_and_the_files_say_the_same(capsys: pytest.CaptureFixture) -> None:
    names = {name: f"new.{name}" for name in ("json", "sgf", "svg", "PNG")}
    capsys.readouterr()
    options = ["--json", names["json"], "--sgf", names["sgf"], "--output"]
    assert asked("--moves", "A2 B2", *options, names["svg"], run="board") == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "Black to play after 2 moves, the last of them B2."
    assert "\x1b" not in told.out and max(map(len, lines)) <= 80
    assert any(line.startswith("Black wins ") for line in lines)
    said = [line for line in told.err.splitlines() if line.startswith("tessera")]
    assert said == ["tessera: last is checkpoints/board/version_0/last.ckpt"]
    chances = json.loads(Path(names["json"]).read_text())["probabilities"]
    printed = dict(re.findall(r"  (\w+) +([\d.]+) %", told.out))
    assert set(printed) == set(chances)
    assert all(abs(100 * chances[vertex] - float(said)) < 0.006 for vertex, said in printed.items())
    points = ElementTree.parse(names["svg"]).getroot().findall(".//*[@class='point']")
    assert len(points) == 9
    last = sgf.Sgf_game.from_bytes(Path(names["sgf"]).read_bytes()).get_last_node()
    assert last.get_move() == ("w", (1, 1)) and len(last.get("LB")) == len(chances) - 1
    assert asked("--moves", "A2 B2", "--output", names["PNG"]) == 0
    with Image.open(names["PNG"]) as image:
        assert image.format == "PNG" and image.width == 600
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_a_board_is_written_as_the_sgf_of_a_position(capsys: pytest.CaptureFixture) -> None:
    Path("board.txt").write_text(DIAGRAM)
    assert asked("board.txt", "--to_play", "white", "--sgf", "set.sgf", run="board") == 0
    root = sgf.Sgf_game.from_bytes(Path("set.sgf").read_bytes()).get_root()
    black, white, _ = root.get_setup_stones()
    assert (black, white) == ({(1, 1), (0, 2)}, {(1, 0), (0, 1)})
    assert "What was played before is unknown." in capsys.readouterr().out


def test_every_position_of_a_game_is_written_with_its_map(capsys: pytest.CaptureFixture) -> None:
    Path("game.sgf").write_text("(;SZ[3];B[ab];W[bb];B[ca])")
    assert asked("game.sgf", "--move", 2, "--sgf", "maps.sgf", "--every_move") == 0
    assert asked("game.sgf", "--move", 2, "--sgf", "last.sgf") == 0
    nodes = sgf.Sgf_game.from_bytes(Path("maps.sgf").read_bytes()).get_main_sequence()
    assert len(nodes) == 3
    for ply, node in enumerate(nodes):
        found = figures(capsys, "game.sgf", "--move", ply)["probabilities"]
        told = dict(re.findall(r"^(?:[a-j]  )?(\w+)  ([\d.]+) %$", node.get("C"), re.M))
        assert {vertex: float(chance) for vertex, chance in told.items()} == {
            vertex: pytest.approx(100 * chance, abs=0.006) for vertex, chance in found.items()
        }
        assert len(node.get("LB")) == len(told) - 1
    last = sgf.Sgf_game.from_bytes(Path("last.sgf").read_bytes()).get_last_node()
    assert last.get("C") == nodes[-1].get("C")
    Path("set_up.sgf").write_text("(;SZ[3]AB[ab]AW[bb];W[ca])")
    assert asked("set_up.sgf", "--sgf", "maps.sgf", "--every_move", run="board") == 0
    root, move = sgf.Sgf_game.from_bytes(Path("maps.sgf").read_bytes()).get_main_sequence()
    assert root.get("PL") == "w" and move.get_move() == ("w", (2, 2))
    assert root.get("C").startswith("white to play, set up") and root.has_setup_stones()


def test_which_file_last_is_is_said(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert asked("--moves", "A2") == 0
    assert "tessera: last is checkpoints/small/version_0/last.ckpt" in capfd.readouterr().err


def test_a_terminal_has_colours_unless_they_are_not_wanted(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("map", "--ckpt_path", "last", "--run_name", "small", "--moves", "A2")
    monkeypatch.setenv("TERM", "xterm-256color")
    code, written = on_terminal_here(*command)
    assert code == 0 and "\x1b[38;5;" in written and "●" in written
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    code, written = on_terminal_here(*command)
    assert code == 0 and "\x1b[" not in written and "(X)" in written


def untouched() -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path().rglob("*")}


OTHERS = ("--output", "new.png", "--json", "new.json", "--sgf", "new.sgf")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "tessera map: there must be either a FILE or --moves, got none."),
        (
            "--moves A1 --playouts 1",
            "tessera map: --playouts must be 0, or 2 to 1,000,000, got 1.",
        ),
        ("good.sgf --moves A1", "tessera map: there must be either a FILE or --moves, got both."),
        ("--moves D4", "tessera: --moves: move 1: vertex must be A1 to C3 or pass, got 'D4'."),
        ("--moves A1,A1", "tessera: --moves: move 2: A1 is occupied."),
        (
            "--moves B1,B2,C2,A2,A1,C1,B1",
            "tessera: --moves: move 7: B1 repeats a position, which the model's rules forbid "
            "(ko positional).",
        ),
        (
            "--moves A2,pass,B1,A1",
            "tessera: --moves: move 4: A1 is suicide, which the model's rules forbid.",
        ),
        ("--moves A1 --move 1", "tessera map: --move is of a FILE, not of --moves."),
        ("--moves A1 --to_play white", "tessera map: --to_play is of a FILE, not of --moves."),
        ("none.sgf", "tessera: positions must be files; there is no none.sgf."),
        (".", "tessera: positions must be files; . is a folder."),
        ("good.sgf --move 3", "tessera: --move must be 0 to 2, the moves of good.sgf, got 3."),
        ("good.sgf --move -1", "tessera map: --move must be at least 0, got -1."),
        ("good.sgf --move one", "tessera map: argument --move: invalid int value: 'one'"),
        ("good.sgf --game 2", "tessera: --game must be at most 1, the games of good.sgf, got 2."),
        ("good.sgf --game 0", "tessera map: --game must be at least 1, got 0."),
        ("good.sgf --to_play black", "tessera: --to_play is of a board; good.sgf is an SGF file,"),
        ("two.sgf", "tessera: two.sgf has 2 games; --game must say which, 1 for the first."),
        ("two.sgf --game 2", "tessera: two.sgf: move 1: B[dd] is no point of a 3×3 board."),
        ("occupied.sgf", "tessera: occupied.sgf: move 2: A3 is occupied."),
        ("large.sgf", "tessera: large.sgf: the board must be 3×3, the model's, got 9."),
        (
            "handicap.sgf",
            "tessera: handicap.sgf: a position is set up, and the model reads",
        ),
        ("board.txt", "tessera: --to_play must say who moves on the board, black or white"),
        ("board.txt --move 1", "tessera: --move is of an SGF file; board.txt is none."),
        ("board.txt --to_play red", "tessera map: argument --to_play: invalid choice: 'red'"),
        ("board.txt --to_play black", "tessera: board.txt: the model reads moves and does not see"),
        ("small.yaml", "tessera: small.yaml is neither SGF nor a board: there is no board in it;"),
        ("bytes", "tessera: bytes: line 1 is neither SGF nor text in UTF-8, got \\xff\\n."),
        (
            "large.txt --to_play black",
            "tessera: large.txt: the board must be 3×3, the model's, got",
        ),
        ("--moves A1 --output x.jpg", "tessera map: --output must end in .png or .svg, got x.jpg."),
        ("--moves A1 --output none/x.png", "tessera map: --output: there is no folder none."),
        ("--moves A1 --output ''", "tessera map: --output must name a file, got none."),
        ("--moves A1 --sgf .", "tessera map: --sgf: . cannot be written."),
        ("--moves A1 --json none/x", "tessera map: --json: there is no folder none."),
        (
            "--moves A1 --sgf x.svg --output x.svg",
            "tessera map: --sgf must be another file than --output, got x.svg.",
        ),
        (
            "good.sgf --sgf ./good.sgf",
            "tessera map: --sgf must be another file than FILE, got ./good.sgf.",
        ),
        ("--moves A1 --device abacus", "tessera map: --device must be auto, cpu or cuda, got"),
        ("--moves A1 --mov 3", "tessera map: "),
        ("--moves A1 --run_name none", "tessera: ckpt_path is last, but there is no checkpoints/"),
        ("--moves A1 --run_name a/b", "tessera: run_name must be letters, digits, . - and _, got"),
        ("--moves A1 --ckpt_path none", "tessera: none is no checkpoint: there is no such file."),
        ("--moves A1 --ckpt_path ''", "tessera map: --ckpt_path must name the model, or be last"),
        ("--moves A1 --ckpt_path small.yaml", "tessera: small.yaml is torn or no checkpoint."),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture, arguments: str, said: str
) -> None:
    Path("good.sgf").write_text("(;SZ[3];B[ab];W[bb])")
    Path("two.sgf").write_text("(;SZ[3];B[ab])(;SZ[3];B[dd])")
    Path("occupied.sgf").write_text("(;SZ[3];B[aa];W[aa])")
    Path("large.sgf").write_text("(;SZ[9];B[aa])")
    Path("handicap.sgf").write_text("(;SZ[3]AB[aa];W[bb])")
    Path("board.txt").write_text(DIAGRAM)
    Path("large.txt").write_text("....\n" * 4)
    Path("bytes").write_bytes(b"\xff\n")
    before = untouched()
    capsys.readouterr()
    given = [word.strip("'").replace(",", " ") for word in arguments.split()]
    given += [
        word
        for option, name in zip(OTHERS[::2], OTHERS[1::2], strict=True)
        if option not in given
        for word in (option, name)
    ]
    assert asked(*given) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(said) and told.err.count("\n") == 1
    assert untouched() == before


def test_a_board_with_captured_stones_is_refused(capsys: pytest.CaptureFixture) -> None:
    Path("dead.txt").write_text("XO.\nO..\n...\n")
    capsys.readouterr()
    assert asked("dead.txt", "--to_play", "black", run="board") == 2
    told = capsys.readouterr()
    said = "tessera: dead.txt: boards must not have a chain without liberties.\n"
    assert (told.out, told.err) == ("", said)


def test_what_is_not_finite_is_never_shown(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Session) -> torch.Tensor:
        return torch.full((12,), float("nan"))

    monkeypatch.setattr(Session, "_read_window", read)
    capsys.readouterr()
    assert asked("--moves", "A1", "--json", "nan.json") == 1
    told = capsys.readouterr()
    assert told.out == "" and not Path("nan.json").exists()
    path = "checkpoints/small/version_0/last.ckpt"
    assert told.err == f"tessera: {path}: the model's probabilities are not finite.\n"


def test_a_disk_without_room_is_named(capsys: pytest.CaptureFixture) -> None:
    for option in ("--json", "--sgf"):
        capsys.readouterr()
        assert asked("--moves", "A1", option, "/dev/full") == 1
        told = capsys.readouterr()
        assert told.err == "tessera: /dev/full: No space left on device.\n"
