"""A trained model in three lines of Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import tessera as package
from tessera.go import IllegalMoveError
from tessera.training import CheckpointError
from tests.runs import fit, tessera

LAST = Path("checkpoints/small/version_0/last.ckpt")
BOARD = (
    *("--model.features", "board", "--model.head", "points"),
    *("--model.board.channels", 4, "--model.board.depth", 1, "--model.outcome", "win_and_score"),
)


@pytest.mark.parametrize("context", ["null", 4], ids=["whole games", "windows"])
@pytest.mark.parametrize("options", [(), BOARD], ids=["moves", "board"])
def test_the_map_is_what_predict_says_of_the_legal_moves(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], context: object
) -> None:
    size = ("--data.board_size", 4, "--data.max_moves", 20)
    assert fit(*options, *size, "--data.context", context) == 0
    game = "B2 C3 B3 C2 pass A1 D4"
    Path("games.txt").write_text(game)
    capsys.readouterr()
    asked = ("--config", "small.yaml", "--run_name", "small", "--ckpt_path", "last")
    more = (*options, *size, "--data.context", context, "--games", "games.txt")
    assert tessera("predict", *asked, *more) == 0
    predicted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    companion = package.load(LAST)
    assert companion.board_size == 4
    for ply, line in enumerate(predicted):
        found = companion.map(game.split()[:ply])
        told = {**found.points, "pass": found.pass_}
        assert sum(told.values()) == pytest.approx(1, abs=1e-5)
        mass = sum(line["probabilities"][vertex] for vertex in told)
        assert found.legal_mass == pytest.approx(mass, abs=1e-4)
        for vertex, chance in told.items():
            assert chance == pytest.approx(line["probabilities"][vertex] / mass, abs=1e-4)
        assert list(found.points.values()) == sorted(found.points.values(), reverse=True)
        assert (found.win is not None) is (found.score is not None) is bool(options)
        assert found.ownership is None and found.played_out is None
        said_by = {"win": "model", "score": "model"} if options else {}
        assert found.said_by == said_by
    played = companion.map(game, playouts=10)
    counted = played.played_out
    assert counted is not None and counted.num_games == 10
    assert played.said_by == {"win": "playouts", "score": "playouts", **said_by} | {
        "ownership": "playouts"
    }
    assert played.ownership is counted.ownership and counted.ownership.shape == (4, 4)
    if not options:
        assert (played.win, played.score) == (counted.win, counted.score)
    with pytest.raises(ValueError, match="playouts must be at least 2, got 1"):
        companion.map(playouts=1)
    assert "B2" not in found.points and "A2" in found.points


def test_a_model_trained_without_settled_points_is_asked_without_them(folder: Path) -> None:
    size = ("--data.board_size", 4, "--data.max_moves", 20, "--trainer.max_steps", 1)
    eyes = {"A1", "C1"}  # of the living stones above them
    game = "A2 A4 B2 B4 C2 C4 D2 D4 B1 pass D1 pass"
    for skips in ("false", "true"):
        assert fit(*size, "--data.skip_settled", skips, "--run_name", skips) == 0
        points = package.load(f"checkpoints/{skips}/version_0/last.ckpt").map(game).points
        assert eyes <= set(points)
        assert all((points[eye] == 0) is (skips == "true") for eye in eyes)


def test_a_model_of_any_board_is_asked_on_another(folder: Path) -> None:
    pooled = ("--model.embedding", "kinds", "--model.board.summary", "pooled")
    board = ("--model.features", "board", "--model.head", "points", *pooled)
    assert fit("--trainer.max_steps", 1, *board) == 0
    found = package.load(LAST, board_size=6).map("F6 A1")
    assert len(found.points) == 34 and "F6" not in found.points
    assert len(package.load(LAST).map().points) == 9
    assert fit("--trainer.max_steps", 1, "--run_name", "one") == 0
    with pytest.raises(ValueError, match=r"^board_size must be 3, the model's, got 6\.$"):
        package.load("checkpoints/one/version_0/last.ckpt", board_size=6)


def test_a_part_of_ones_own_is_imported_if_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "asked_parts.py").write_text(
        "from tessera.model import MambaMixer\nclass Mine(MambaMixer): pass\n"
    )
    monkeypatch.syspath_prepend(folder)
    own = "asked_parts.Mine"
    assert fit("--trainer.max_steps", 1, "--model.mixer", own) == 0
    assert len(package.load(LAST, own=[own]).map("B2").points) == 8
    with pytest.raises(ValueError, match="is used only if the command line or a file names it"):
        package.load(LAST)
    for option, code in (([], 2), (["--own", own], 0)):
        asked = ("map", "--ckpt_path", "last", "--run_name", "small", "--moves", "B2", *option)
        assert tessera(*asked) == code


def test_moves_are_a_text_a_list_or_tokens(folder: Path) -> None:
    assert fit() == 0
    companion = package.load(str(LAST))
    maps = [companion.map(moves) for moves in ("B2 pass", ["b2", "PASS"], [4, 9], [4, "pass"])]
    assert all(each == maps[0] for each in maps)
    assert companion.map() == companion.map("") == companion.map([])
    with pytest.raises(IllegalMoveError, match="B2 is occupied"):
        companion.map("B2 B2")
    for wrong in ("D4", ["B2", "x"]):
        with pytest.raises(ValueError, match="vertex must be"):
            companion.map(wrong)
    session = companion.session()
    session.play(4)
    assert session.undo()


def test_the_page_shows_what_works(
    folder: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--data.board_size", 9, "--data.max_moves", 30, "--trainer.max_steps", 1) == 0
    page = (repository / "tessera" / "play" / "README.md").read_text()
    shown = re.findall(r"^>>> (.*)$", page, re.M)
    assert len(shown) >= 5 and "quickstart" in shown[1]
    capsys.readouterr()
    names: dict[str, object] = {}
    for line in shown:
        exec(compile(line.replace("quickstart", "small"), "page", "single"), names)
    printed = capsys.readouterr().out.splitlines()
    told = re.findall(r"^[{(\d].*$", page[page.index(">>>") :].split("```")[0], re.M)
    # Another model says other numbers of the same kinds.
    assert [re.sub(r"[\d.]+|'\w+'", "?", x) for x in printed] == [
        re.sub(r"[\d.]+|'\w+'", "?", x) for x in told
    ]


def test_a_file_that_cannot_be_used_is_refused(folder: Path) -> None:
    assert fit() == 0
    checkpoint = torch.load(LAST, weights_only=True)
    for path in ("none.ckpt", "small.yaml", "."):
        with pytest.raises(CheckpointError, match=path):
            package.load(path)
    checkpoint["hyper_parameters"]["mixer"] = "os.system"
    torch.save(checkpoint, "own.ckpt")
    with pytest.raises(CheckpointError, match="is used only if the command line"):
        package.load("own.ckpt")


def test_code_that_only_another_machine_runs_is_exchanged(folder: Path) -> None:
    assert fit() == 0
    expected = package.load(LAST).map("B2")
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["hyper_parameters"]["mamba"]["scan"] = "triton"
    checkpoint["datamodule_hyper_parameters"]["backend"] = "triton"
    torch.save(checkpoint, "gpu.ckpt")
    assert package.load("gpu.ckpt").map("B2") == expected
