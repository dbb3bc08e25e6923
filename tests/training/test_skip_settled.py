"""Runs whose games leave settled points alone, through the real commands."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import fit, tessera
from tests.training.test_resume import STOPPER, stop_at

SKIP = ("--data.skip_settled", "true")
SIZE = ("--data.board_size", 4, "--data.max_moves", 40, "--data.context", "null")
LAST = Path("checkpoints/small/version_0/last.ckpt")


@pytest.fixture(autouse=True)
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)


def state(name: str = "small") -> dict[str, Any]:
    return torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)


@pytest.mark.parametrize("share", [0, 0.5])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    share: float, capsys: pytest.CaptureFixture
) -> None:
    options = (*SIZE, "--data.selfplay_share", share, "--model.lr", 0.01)
    assert fit(*options, *SKIP, "--run_name", "whole") == 0
    assert fit(*options, *SKIP, *stop_at(12, signal.SIGTERM)) == 143
    capsys.readouterr()
    assert fit(*options, "--data.skip_settled", "false", "--ckpt_path", LAST) == 2
    line = f"data.skip_settled must be True to go on from {LAST}, got False."
    assert capsys.readouterr().err == f"tessera: {line}\n"
    assert fit(*options, *SKIP, "--ckpt_path", LAST) == 0
    whole, resumed = state("whole"), state()
    assert whole["datamodule_hyper_parameters"]["skip_settled"] is True
    assert resumed["global_step"] == whole["global_step"] == 20
    for name, weight in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name
    assert fit(*options, "--run_name", "other") == 0
    other = state("other")["state_dict"]
    assert any(not torch.equal(other[name], whole["state_dict"][name]) for name in other)


def test_a_run_is_measured_with_and_without_settled_points_however_it_was_trained(
    capsys: pytest.CaptureFixture,
) -> None:
    found = {}
    for trained in ("false", "true"):
        assert fit(*SIZE, "--data.skip_settled", trained, "--run_name", f"trained-{trained}") == 0
        path = f"checkpoints/trained-{trained}/version_0/last.ckpt"
        for tested in (None, "false", "true"):
            own = () if tested is None else ("--data.skip_settled", tested)
            more = ("--data.test_batches", 8, "--json", "found.json")
            assert tessera("test", "--ckpt_path", path, *own, *more) == 0
            found[trained, tested] = json.loads(Path("found.json").read_text())
        # Without a word the games are those of the checkpoint.
        assert found[trained, None] == found[trained, trained]
        skipping, plain = found[trained, "true"], found[trained, "false"]
        assert abs(skipping["test/floor_nats"] - plain["test/floor_nats"]) > 0.05  # other games
        # Points that are no choice take nothing of a model that knows little yet.
        assert skipping["test/legal_mass"] > plain["test/legal_mass"] + 0.02
        assert 0 < skipping["test/excess_nats"] < 3
    capsys.readouterr()
