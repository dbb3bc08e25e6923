"""Models that read features, through the real commands: what is learned, resumed and predicted."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.training.calibration import CALIBRATION_METRICS
from tests.runs import fit, tessera
from tests.training.test_resume import STOPPER, stop_at

BOARD = (
    *("--model.features", "board", "--model.head", "points"),
    *("--model.board.channels", 4, "--model.board.depth", 1),
)
LANDMARKS = ("--model.features", "landmarks", "--model.head", "points", "--model.points.decoded", 2)
OUTCOME = ("--model.outcome", "win_and_score")
WHOLE = ("--data.context", "null")
LAST = Path("checkpoints/small/version_0/last.ckpt")


@pytest.fixture(autouse=True)
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)


def state(name: str = "small") -> dict[str, Any]:
    return torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    "options",
    [(*BOARD, *OUTCOME, *WHOLE), (*LANDMARKS, "--data.context", 6), (*BOARD, *WHOLE)],
    ids=["board and outcome", "landmarks", "board"],
)
@pytest.mark.parametrize("share", [0, 0.5])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    options: tuple[object, ...], share: float
) -> None:
    options = (*options, "--data.selfplay_share", share, "--model.lr", 0.01)
    assert fit(*options, "--run_name", "whole") == 0
    assert fit(*options, *stop_at(12, signal.SIGTERM)) == 143
    assert fit(*options, "--ckpt_path", "last") == 0
    whole, resumed = state("whole"), state()
    assert resumed["global_step"] == whole["global_step"] == 20
    for name, weight in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name
    assert any(name.startswith("model.features.") for name in whole["state_dict"])


def test_the_board_teaches_what_moves_alone_do_not(capsys: pytest.CaptureFixture) -> None:
    longer = ("--trainer.max_steps", 150, "--trainer.val_check_interval", 150, "--model.lr", 0.02)
    size = ("--data.board_size", 4, "--data.max_moves", 40, "--data.games_per_chunk", 600, *WHOLE)
    found = {}
    for name, options in (("moves", ()), ("board", BOARD)):
        assert fit(*options, *longer, *size, "--model.decay_steps", 150, "--run_name", name) == 0
        capsys.readouterr()
        asked = ("--config", "small.yaml", "--run_name", name, "--ckpt_path", "last", *size)
        assert tessera("test", *asked, "--data.test_batches", 8, "--json", "found.json") == 0
        found[name] = json.loads(Path("found.json").read_text())
    assert found["board"]["test/excess_nats"] < 0.6 * found["moves"]["test/excess_nats"]
    assert found["board"]["test/legal_top1"] > found["moves"]["test/legal_top1"] + 0.1


def test_a_model_of_no_particular_board_goes_on_with_another(
    capsys: pytest.CaptureFixture,
) -> None:
    pooled = ("--model.embedding", "kinds", "--model.board.summary", "pooled")
    assert fit(*BOARD, *pooled, *OUTCOME, *WHOLE, "--trainer.max_steps", 10) == 0
    larger = ("--data.board_size", 5, "--data.max_moves", 30)
    asked = ("--config", "small.yaml", "--ckpt_path", "last", *larger)
    assert tessera("test", *asked, "--json", "found.json") == 0
    measured = json.loads(Path("found.json").read_text())
    assert measured["test/loss"] == pytest.approx(3.3, abs=0.5)  # ln 28
    Path("games.txt").write_text("E5 A1\n")
    capsys.readouterr()
    assert tessera("predict", "--ckpt_path", LAST, "--games", "games.txt", *larger) == 0
    (first, *_) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert len(first["probabilities"]) == 27
    assert fit("--ckpt_path", "last", "--data.board_size", 5, "--trainer.max_steps", 15) == 0
    assert state()["global_step"] == 15
    assert state()["datamodule_hyper_parameters"]["board_size"] == 5


def test_a_model_of_one_board_goes_on_with_no_other(capsys: pytest.CaptureFixture) -> None:
    assert fit(*BOARD, "--model.embedding", "kinds", "--trainer.max_steps", 2) == 0
    capsys.readouterr()
    assert fit("--ckpt_path", "last", "--data.board_size", 5) == 2
    told = "data.board_size must be 3 to go on from"
    assert told in capsys.readouterr().err


def test_an_outcome_is_measured_and_logged(capsys: pytest.CaptureFixture) -> None:
    assert fit(*BOARD, *OUTCOME, *WHOLE) == 0
    (log,) = Path("lightning_logs").rglob("events*")
    events = EventAccumulator(str(log)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/win_loss", "train/score_loss", "val/win_brier", "val/win_ece"} <= tags
    losses = {tag: events.Scalars(f"train/{tag}")[0].value for tag in ("loss", "win_loss")}
    assert losses["loss"] == pytest.approx(2.48, abs=0.3)  # ln 12, of the moves alone
    assert losses["win_loss"] == pytest.approx(0.69, abs=0.1)  # ln 2
    capsys.readouterr()
    assert tessera("test", "--config", "small.yaml", "--ckpt_path", "last", "--json", "a.json") == 0
    found = json.loads(Path("a.json").read_text())
    assert 0 < found["test/win_brier"] < 0.5 and 0 <= found["test/win_ece"] <= 1
    assert 0 < found["test/win_brier_base"] <= 0.25 and found["test/score_rmse_base"] > 0
    rows = capsys.readouterr().out
    asked = ("--config", "small.yaml", "--ckpt_path", "last", "--json", "val.json", *WHOLE)
    assert tessera("validate", *asked) == 0
    # Of the second of two validations: nothing is left of the first.
    brier = json.loads(Path("val.json").read_text())["val/win_brier"]
    assert events.Scalars("val/win_brier")[-1].value == pytest.approx(brier, abs=1e-6)
    for name in CALIBRATION_METRICS:
        measured = json.loads(Path("val.json").read_text())[f"val/{name}"]
        assert events.Scalars(f"val/{name}")[-1].value == pytest.approx(measured, abs=1e-6)
    assert re.search(rf"\nwin_brier +{found['test/win_brier']:.4f} ", rows)


@pytest.mark.parametrize("options", [BOARD, LANDMARKS], ids=["board", "landmarks"])
def test_games_are_predicted_and_shown_with_what_the_model_reads(
    options: tuple[object, ...], capsys: pytest.CaptureFixture
) -> None:
    more = ("--trainer.max_steps", 4, "--trainer.val_check_interval", 4, "--data.context", 5)
    assert fit(*options, *more, "--picture_every_n_validations", 1) == 0
    (log,) = Path("lightning_logs").rglob("events*")
    assert EventAccumulator(str(log)).Reload().Tags()["images"] == ["val/game", "val/calibration"]
    Path("games.txt").write_text("B2 A1 pass C3 A2 pass B1\nB2\n")
    capsys.readouterr()
    predicted = []
    for context in (5, 4, "null"):
        asked = ("--ckpt_path", LAST, "--games", "games.txt", "--data.context", context)
        assert tessera("predict", *asked) == 0
        plies = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(plies) == 8 + 2
        sums = [sum(ply["probabilities"].values()) for ply in plies]
        assert sums == pytest.approx([1] * 10, abs=1e-4)
        predicted.append([ply["probabilities"] for ply in plies])
    assert predicted[0][:4] == predicted[1][:4] == predicted[2][:4]  # all windows are whole there
    assert predicted[0][7] != predicted[2][7]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--model.head", "points"),
            "model.head must be linear where features make no map, as those named board do, got "
            "points.",
        ),
        (
            ("--model.features", "bord"),
            "model.features must be none, board, landmarks or the path of a class such as "
            "my_package.MyPart, got bord.",
        ),
        (
            ("--model.features", "board", "--model.board.channels", 0),
            "model.board.channels must be a whole number of at least 1, got 0.",
        ),
        (
            (*OUTCOME, "--model.win_and_score.win_weight", -1),
            "model.win_and_score.win_weight must be at least 0, got -1.0.",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(
    options: tuple[object, ...], line: str, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*options) == 2
    assert capsys.readouterr().err == f"tessera: {line}\n"
    assert not Path("checkpoints").exists()
