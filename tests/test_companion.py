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
        assert found.ownership is None
    assert "B2" not in found.points and "A2" in found.points


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
