"""Criteria 2, 3 and 4: a training passes, and one that learns or ends badly is found."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tessera.commands.check.criteria import judge_monitor, judge_progress, judge_transfers
from tessera.commands.check.training_trial import TrainingSettings, train
from tessera.commands.check.trials import TrainingRun
from tessera.model import GameModel
from tessera.signals import Stopped, StopSignals
from tessera.training import TesseraModule
from tests.commands.check.small import SMALL

CPU = torch.device("cpu")


def trained(settings: TrainingSettings = SMALL, seed: int = 0) -> TrainingRun:
    return train(settings, CPU, seed, lambda done: None)


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that is the folder of temporary files as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_model_that_learns_passes_early_and_leaves_nothing_behind(traces: Path) -> None:
    told: list[float] = []
    run = train(SMALL, CPU, 0, told.append)
    assert run.fault == "" and SMALL.min_steps <= len(run.losses) < SMALL.max_steps
    finding = judge_progress(run)
    assert finding.verdict == "passed", finding.measured
    assert run.losses[0] == pytest.approx(math.log(12), abs=0.1)
    assert run.last_loss == pytest.approx(run.floor_nats + run.excess_nats, abs=0.3)
    assert judge_transfers(run).verdict == "passed"
    monitor = judge_monitor(run)
    assert monitor.verdict == "passed", monitor.measured
    assert told == sorted(told) and told[0] >= 0 and told[-1] == 1.0
    assert list(traces.iterdir()) == []


def test_a_training_with_the_same_seed_is_the_same_again() -> None:
    settings = dataclasses.replace(SMALL, max_steps=5)
    first, second = (trained(settings, 3) for _ in range(2))
    assert first.losses == second.losses and len(first.losses) == 5
    other = trained(settings, 4)
    assert other.losses[0] != first.losses[0]  # other weights
    assert other.floor_nats != first.floor_nats  # other games


def test_a_model_that_does_not_learn_fails_after_all_its_steps() -> None:
    run = trained(dataclasses.replace(SMALL, lr=1e-9, max_steps=30))
    assert len(run.losses) == 30
    finding = judge_progress(run)
    assert finding.verdict == "failed" and abs(finding.details["fall_ratio"]) < 0.05


def test_a_bad_start_fails_although_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    init = GameModel.__init__

    def badly(self: GameModel, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        nn.init.normal_(self.head.bias, std=3.0)

    monkeypatch.setattr(GameModel, "__init__", badly)
    finding = judge_progress(trained())
    assert finding.details["fall_ratio"] > 0.1 and finding.verdict == "failed"


def test_a_loss_that_is_no_number_ends_the_training_and_fails() -> None:
    run = trained(dataclasses.replace(SMALL, lr=1e30, warmup_steps=0))
    assert len(run.losses) == 10 and not math.isfinite(run.losses[-1])
    assert judge_progress(run).verdict == "failed"


def test_an_error_in_a_step_is_what_was_found(
    traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TesseraModule.training_step

    def broken(self: TesseraModule, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 12:
            raise RuntimeError("planted")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TesseraModule, "training_step", broken)
    run = trained()
    assert run.fault == "RuntimeError: planted" and run.monitor is None
    for judge in (judge_progress, judge_transfers, judge_monitor):
        assert judge(run).verdict == "failed" and "planted" in judge(run).measured
    assert list(traces.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_training_is_not_taken_for_a_finding(
    traces: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    step = TesseraModule.training_step

    def interrupted(self: TesseraModule, batch: Any, batch_idx: int) -> Tensor:
        os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TesseraModule, "training_step", interrupted)
    with pytest.raises(Stopped) as ended, StopSignals():
        trained()
    assert ended.value.number == number
    assert list(traces.iterdir()) == []
