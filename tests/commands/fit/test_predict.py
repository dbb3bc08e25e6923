"""``tessera predict`` as it is typed: every game that is named, or what is wrong with each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tessera.commands.fit.predict import lines_of
from tessera.companion import load
from tessera.play.games import NamedGame
from tessera.play.sgf import SgfGame, read_sgf
from tessera.play.sgf_session import lead_to
from tessera.training.checkpointing import DivergedError
from tessera.training.module import TesseraModule
from tessera.vocabulary import Vocabulary
from tests.runs import SMALL, fit, tessera


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a model of 3×3 games of at most 12 moves."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--trainer.max_steps", 1) == 0
        yield folder


def predict(*games: str) -> int:
    return tessera("predict", "--ckpt_path", "last", "--run_name", "small", "--games", *games)


def names(output: str) -> list[str]:
    """The games of the printed rows, each once."""
    return list(dict.fromkeys(json.loads(line)["game"] for line in output.splitlines()))


def test_every_game_of_every_file_is_predicted(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("two.sgf").write_text("mail (a)\n\n(;SZ[3];B[ab];W[bb])\n(;SZ[3];B[cc])")
    Path("one.sgf").write_bytes("(;SZ[3]CA[Shift_JIS]C[表];B[ab];W[bb])".encode("cp932"))
    Path("empty.sgf").write_text("(;SZ[3])")
    Path("lines.txt").write_bytes("A1\r\n\r\npass pass\r\n".encode("utf-16"))
    capsys.readouterr()
    assert predict("two.sgf", "one.sgf", "empty.sgf", "lines.txt", "one.sgf") == 0
    told = capsys.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    played = [(row["game"], row["ply"], row["played"]) for row in rows]
    one = [("one.sgf", ply, vertex) for ply, vertex in enumerate(["A2", "B2", None])]
    assert played == [
        *[("two.sgf:1", ply, vertex) for ply, vertex in enumerate(["A2", "B2", None])],
        *[("two.sgf:2", ply, vertex) for ply, vertex in enumerate(["C1", None])],
        *one,
        ("empty.sgf", 0, None),
        *[("lines.txt:1", ply, vertex) for ply, vertex in enumerate(["A1", None])],
        *[("lines.txt:3", ply, vertex) for ply, vertex in enumerate(["pass", "pass", None])],
        *one,
    ]
    assert "tessera:" not in told.err


def test_handicap_stones_are_moves_between_which_white_passes(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("handicap.sgf").write_text("(;SZ[3]HA[2]AB[aa][cc];W[bb])")
    Path("same.txt").write_text("A3 pass C1 B2")
    capsys.readouterr()
    assert predict("handicap.sgf", "same.txt") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        del row["game"]
    assert len(rows) == 10 and rows[:5] == rows[5:]


def test_a_position_that_is_set_up_needs_a_model_that_sees_the_board(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("set_up.sgf").write_text("(;SZ[3]AB[ab]AW[bb];W[cc];B[aa])")
    Path("later.sgf").write_text("(;SZ[3];B[aa];AW[bb];W[cc])")
    Path("illegal.sgf").write_text("(;SZ[3]AB[ab]AW[bb];W[cc];B[ab])")
    capsys.readouterr()
    assert predict("set_up.sgf", "later.sgf") == 2
    assert capsys.readouterr().err.splitlines() == [
        "tessera: set_up.sgf: a position is set up, and the model reads moves and does not see a "
        "board (model.features board does), so it can only follow a game from its beginning.",
        "tessera: later.sgf: move 2: a position is set up in the middle of the game; a game must "
        "be played from its beginning.",
    ]
    board = ("--model.features", "board", "--model.head", "points", "--run_name", "board")
    assert fit("--trainer.max_steps", 1, *board) == 0
    asked = ("predict", "--ckpt_path", "last", *board, "--games")
    capsys.readouterr()
    assert tessera(*asked, "illegal.sgf") == 2
    assert capsys.readouterr().err == "tessera: illegal.sgf: move 2: A2 is occupied.\n"
    assert tessera(*asked, "set_up.sgf") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["played"] for row in rows] == ["C1", "A3", None]
    assert all(row["set_up"] is True for row in rows)
    session = load("checkpoints/board/version_0/last.ckpt").session()
    (game,) = read_sgf(Path("set_up.sgf").read_bytes(), allows_set_up=True)
    assert isinstance(game, SgfGame)
    for ply, row in enumerate(rows):
        lead_to(session, game, ply)
        outlook = session.outlook()
        for token in outlook.legal.nonzero().flatten().tolist():
            chance = row["probabilities"][session.vocabulary.vertex(token)]
            told = float(outlook.probabilities[token]) * outlook.legal_mass
            assert told == pytest.approx(chance, abs=1e-4)


def test_all_faults_are_told_and_nothing_is_predicted(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("good.sgf").write_text("(;SZ[3];B[ab])")
    Path("bad.sgf").write_text("(;SZ[3];B[ab])(;SZ[3];B[aa][bb])(;SZ[3];B[aa];W[aa])(;SZ[3];B[dd])")
    Path("bad.txt").write_text("A1\nC3 C3 C3\npass pass B1\nA1 D4\n" + "A1 pass B1 pass " * 4)
    capsys.readouterr()
    assert predict("good.sgf", "bad.sgf", "none", "bad.txt") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "tessera: bad.sgf:2: move 1: a node must have one move, got B[aa][bb].",
        "tessera: bad.sgf:3: move 2: A3 is occupied.",
        "tessera: bad.sgf:4: move 1: B[dd] is no point of a 3×3 board.",
        "tessera: games must be files; there is no none.",
        "tessera: bad.txt:2: move 2: C3 is occupied.",
        "tessera: bad.txt:3: move 3: the game is over after two passes.",
        "tessera: bad.txt:4: move 2: vertex must be A1 to C3 or pass, got 'D4'.",
        "tessera: bad.txt:5: move 5: A1 is occupied.",
    ]


def test_the_model_says_how_long_a_game_may_be(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    game = "B3 C1 C3 B1 C2 A2 B2 A3 B3 B2 C2 C3 pass"
    Path("long.txt").write_text(game)
    capsys.readouterr()
    assert predict("long.txt") == 2
    assert capsys.readouterr().err == (
        "tessera: long.txt:1: move 13: the game is over after 12 moves "
        "(the model's data.max_moves).\n"
    )
    Path("long.txt").write_text(game.removesuffix(" pass"))
    assert predict("long.txt") == 0


def test_a_game_of_other_ko_rules_is_predicted_with_a_warning(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("super.txt").write_text("B1 B2 C2 A2 A1 C1 B1\n")
    capsys.readouterr()
    assert predict("super.txt") == 0
    told = capsys.readouterr()
    assert names(told.out) == ["super.txt:1"]
    warnings = [line for line in told.err.splitlines() if line.startswith("tessera:")]
    assert warnings == [
        "tessera: warning: super.txt:1: move 7: B1 repeats a position, which the model's rules "
        "forbid (ko positional)."
    ]


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"A1\n(;SZ[3];B[ac])", 0, '{"game": "-", "ply": 0, "played": "A1"'),
        (b"A1 B2\n\nD4", 2, "tessera: -:3: move 1: vertex must be A1 to C3 or pass, got 'D4'."),
        (b"", 2, "tessera: -: there is no game in it."),
    ],
)
def test_standard_input_is_as_good_as_a_file(
    trained: Path, capsys: pytest.CaptureFixture, content: bytes, code: int, line: str
) -> None:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    before = os.dup(0)
    os.dup2(read, 0)
    try:
        capsys.readouterr()
        assert predict("-") == code
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(read)
    told = capsys.readouterr()
    assert (told.err if code else told.out).startswith(line)


def test_what_is_not_finite_is_never_printed(
    trained: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, vocabulary = NamedGame("a", [0]), Vocabulary(3)
    for wrong in (float("nan"), float("inf")):
        chances = torch.full((2, vocabulary.size), 0.1)
        chances[1, 3] = wrong
        with pytest.raises(DivergedError, match="a: the model's probabilities are not finite"):
            list(lines_of(game, chances, vocabulary))
    monkeypatch.setattr(
        TesseraModule, "predict_step", lambda self, batch, index: torch.full((2, 12), float("nan"))
    )
    Path("one.txt").write_text("A1\n")
    capsys.readouterr()
    assert predict("one.txt") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "tessera: one.txt:1: the model's probabilities are not finite.\n"
