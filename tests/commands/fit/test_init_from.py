"""``--init_from``: whose weights a new run begins with, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.runs import tessera

# A model of no particular board, which a search may ask.
MODEL = """
model:
  features: board
  board: {channels: 4, depth: 2, squeeze: 2, summary: pooled, colour: true, pooled: 2}
  embedding: kinds
  mixer: identity
  d_model: 8
  head: points
  outcome: win_and_score
  win_and_score: {width: 4, ownership_weight: 1.0}
"""
SELFPLAY = """
  objective: expert_iteration
  expert_iteration: {slots: 2, simulations: 2, fast_simulations: 0, rows: 8, first_rows: 2,
    opening_plies: 2, playout_steps: 0, playouts: 1, match_pairs: 0, ema_decay: 0.5}
"""
RUN = """
trainer: {max_steps: 1, val_check_interval: 10, accelerator: cpu, enable_progress_bar: false}
data: {board_size: SIZE, max_moves: 20, batch_size: 4, context: 1, games_per_chunk: 4,
  windows_per_game: 1, val_batches: 1}
picture_every_n_validations: 0
cpu_threads: 1
"""

_STEP = 1e-25
# A step that changes hardly anything.
STILL = ("--model.lr", 1e-30, "--model.weight_decay", 0)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three configurations and a run of each of the first two, on 3×3."""
    folder = tmp_path_factory.mktemp("begun")
    for name, size, objective in (("board", 3, ""), ("own", 3, SELFPLAY), ("large", 4, SELFPLAY)):
        text = MODEL.rstrip() + objective + RUN.replace("SIZE", str(size))
        (folder / f"{name}.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, name in enumerate(("board", "own"), 1):  # a new run has others
            options = ("--seed_everything", seed, "--trainer.max_steps", 3)
            assert tessera("fit", "--config", f"{name}.yaml", *options) == 0
        file = "own.safetensors"
        assert tessera("export", "--ckpt_path", "last", "--run_name", "own", "--output", file) == 0
    return folder


@pytest.fixture
def runs(ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in which the test works."""
    shutil.copytree(ended, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    yield tmp_path / "runs"


def held(name: str, version: int = 0) -> dict[str, Any]:
    path = f"checkpoints/{name}/version_{version}/last.ckpt"
    return torch.load(path, weights_only=True)


def saved(name: str, version: int = 0) -> dict[str, Any]:
    return yaml.safe_load(Path(f"lightning_logs/{name}/version_{version}/config.yaml").read_text())


def are_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.allclose(first[name], second[name], rtol=0, atol=_STEP) for name in first
    )


@pytest.mark.parametrize("start", ["own", "own.safetensors"])
def test_a_run_on_another_board_begins_with_the_weights_that_play(runs: Path, start: str) -> None:
    assert tessera("fit", "--config", "large.yaml", "--init_from", start, *STILL) == 0
    begun, of_start = held("large"), held("own")
    assert not are_same(of_start["objective"]["player"], of_start["objective"]["learner"])
    assert are_same(begun["state_dict"], of_start["state_dict"])
    plain = {name.removeprefix("model."): w for name, w in of_start["state_dict"].items()}
    # What is learned, and the moving average that plays.
    for name in ("learner", "player"):
        assert are_same(begun["objective"][name], plain)
    assert begun["global_step"] == 1
    file = "checkpoints/own/version_0/last.ckpt" if start == "own" else start
    assert saved("large")["init_from"] == file
    assert saved("own")["init_from"] is None and "init_from" not in of_start


def test_self_play_begins_with_a_model_of_the_players_games(runs: Path) -> None:
    assert tessera("fit", "--config", "large.yaml", "--init_from", "board", *STILL) == 0
    assert are_same(held("large")["state_dict"], held("board")["state_dict"])
    # And the other way: what is learned may be another thing.
    assert tessera("fit", "--config", "board.yaml", "--init_from", "own", *STILL) == 0
    assert are_same(held("board", 1)["state_dict"], held("own")["state_dict"])


def test_a_run_s_name_is_looked_for_where_the_runs_are(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    root = ("--trainer.default_root_dir", runs.name)
    assert tessera("fit", "--config", "runs/large.yaml", "--init_from", "own", *root, *STILL) == 0
    monkeypatch.chdir(runs)
    assert saved("large")["init_from"] == "runs/checkpoints/own/version_0/last.ckpt"


def test_what_is_resumed_knows_its_start_and_does_not_read_it(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("fit", "--config", "large.yaml")
    assert tessera(*command, "--init_from", "own.safetensors") == 0
    resume = capsys.readouterr().out.splitlines()[-1].partition("tessera ")[2]
    assert "--ckpt_path" in resume and "init_from" not in resume
    Path("own.safetensors").unlink()
    # The settings that were saved serve to go on and to measure as well.
    shutil.copy("lightning_logs/large/version_0/config.yaml", "saved.yaml")
    last = ("--config", "saved.yaml", "--run_name", "large", "--ckpt_path", "last")
    assert tessera("fit", *last, "--trainer.max_steps", 2) == 0
    assert held("large")["global_step"] == 2
    assert saved("large")["init_from"] == held("large")["init_from"] == "own.safetensors"
    assert tessera("validate", *last) == 0
    # A new run of them begins as that one did, and so has to read it.
    assert tessera("fit", "--config", "saved.yaml", "--run_name", "again") == 2
    assert "own.safetensors is no checkpoint: there is no such file." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--init_from=", "init_from must name a model, or be last; got none."),
        ("--init_from=a\x07b", "init_from must be letters that can be printed, got"),
        ("--init_from none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
        ("--init_from large.yaml", "large.yaml is torn or no checkpoint."),
        ("--init_from lightning_logs", "lightning_logs is no checkpoint: it is a folder."),
        ("--init_from last", "init_from is last, but there is no checkpoints/large/version_*/last"),
        (
            "--init_from own --ckpt_path last --run_name own",
            "init_from must not be given with ckpt_path: a run that goes on has weights; got own.",
        ),
        (
            "--init_from own --model.board.channels 5",
            "checkpoints/own/version_0/last.ckpt is no start for this model: model "
            "features.first.weight must have the shape (5, 10, 3, 3), got (4, 10, 3, 3).",
        ),
        (
            "--init_from own --model.board.depth 4",
            "is no start for this model: model lacks features.rest.2.weight and 5 more.",
        ),
        (
            "--init_from own --model.win_and_score.ownership_weight 0",
            "model has outcome.owners.weight and 1 more, which the model has not.",
        ),
        (
            "--init_from own --model.board.summary points",
            "features.up.weight must have the shape (8, 32), got (8, 4).",
        ),
        ("--init_from large", "large is no checkpoint: there is no such file, and no folder check"),
    ],
)
def test_what_is_no_start_is_one_line_and_the_disk_stays_as_it_was(
    runs: Path, capsys: pytest.CaptureFixture[str], given: str, says: str
) -> None:
    before = sorted(runs.rglob("*"))
    capsys.readouterr()
    assert tessera("fit", "--config", "large.yaml", *given.split()) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1
    assert sorted(runs.rglob("*")) == before


def test_a_start_of_another_board_alone_is_said_to_be_that(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_points = ("--model.board.summary", "points", "--run_name", "points")
    assert tessera("fit", "--config", "own.yaml", *of_points) == 0
    capsys.readouterr()
    assert tessera("fit", "--config", "large.yaml", *of_points, "--init_from", "points") == 2
    told = "(8, 32), got (8, 18); such weights depend on the board, which was 3×3; a model like "
    line = capsys.readouterr().err
    assert f"{told}that of the configuration any_board has none." in line
    assert line.count("\n") == 1


def test_the_start_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert tessera("fit", "--help") == 0
    assert "--init_from" in capsys.readouterr().out
