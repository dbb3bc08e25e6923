"""What a training step costs the host beyond the model's own work."""

from __future__ import annotations

import csv
import inspect
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.nn.utils import clip_grad_norm_
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.data import GameBatch, GameStream, StreamSettings
from tessera.model import MambaModel
from tessera.training import TrainingCheckpoint, throughput
from tessera.training.checkpointing import DivergedError
from tessera.training.module import TesseraModule
from tessera.training.unprofiled import Unprofiled
from tests.monitor.runs import run, scalars

# Lightning's division by the accumulated batches, with its gradient, and its copy of the loss; the
# count of tokens.
OF_FIT = Counter({"div": 2, "clone": 1, "ne": 1, "sum": 1, "add_": 1})


class Operators(TorchDispatchMode):
    """Counts operators that are a kernel on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.namespace == "aten":
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class Steps(Callback):
    """Counts the operators of one step, from its first hook to that of the next one."""

    def __init__(self, step: int) -> None:
        self.step, self.operators = step, Operators()

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step + 1 == self.step:
            self.operators.__enter__()
        if trainer.global_step == self.step:
            self.operators.__exit__(None, None, None)


def bare_loop() -> Counter[str]:
    """The operators of a step that does nothing but train."""
    settings = StreamSettings(
        board_size=3, batch_size=4, context=12, games_per_chunk=8, windows_per_game=1
    )
    model, stream, operators = MambaModel(12, 8, 4), GameStream(settings), Operators()
    optimizer = torch.optim.AdamW(model.parameters())
    for index in range(2):
        batch = stream.batch(index)
        with operators if index else torch.enable_grad():
            losses = model(batch.inputs, batch.targets)
            loss = losses.sum() / (batch.targets != 10).sum()
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return operators.counts


def test_a_step_runs_hardly_more_operators_than_a_bare_loop(folder: Path) -> None:
    steps = Steps(15)
    options = ["--trainer.val_check_interval", 100, "--data.games_per_chunk", 400]
    run("--trainer.log_every_n_steps", 10, *options, callbacks=(steps,))
    added = steps.operators.counts - bare_loop()
    assert added == OF_FIT


class Seen(Callback):
    """What callbacks can read of a step's figures."""

    def __init__(self) -> None:
        self.loss: dict[int, float] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.loss[trainer.global_step] = float(trainer.callback_metrics["train/loss"])


def test_callbacks_read_the_same_figures_as_are_logged(folder: Path) -> None:
    seen = Seen()
    run("--trainer.log_every_n_steps", 6, callbacks=(seen,))
    logged = scalars()
    assert list(logged["train/loss"]) == list(logged["train/tokens_per_s"]) == [6, 12, 18]
    assert {step: seen.loss[step] for step in (6, 12, 18)} == pytest.approx(logged["train/loss"])
    assert seen.loss[7] == seen.loss[6] and 5 not in seen.loss


class Clock(Callback):
    """A clock that each step moves by a second; counts the targets up to each step."""

    def __init__(self) -> None:
        self.now, self.targets = 0.0, [0]

    def monotonic(self) -> float:
        return self.now

    def on_train_batch_start(self, *args: Any) -> None:
        self.now += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TesseraModule, outputs: Any, batch: GameBatch, *args: Any
    ) -> None:
        self.targets.append(self.targets[-1] + int((batch.targets != pl_module.pad_token).sum()))


def test_neither_validation_nor_its_games_are_in_the_tokens_a_second(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    play, validate = GameStream._play, TesseraModule.validation_step

    def slow_play(stream: GameStream, number: int) -> Any:
        clock.now += 1000 if stream.num_batches is not None else 0
        return play(stream, number)

    def slow_validation(*args: Any) -> Any:
        clock.now += 1000
        return validate(*args)

    monkeypatch.setattr(GameStream, "_play", slow_play)
    monkeypatch.setattr(TesseraModule, "validation_step", slow_validation)
    options = ("--trainer.val_check_interval", 7, "--trainer.log_every_n_steps", 6)
    run(*options, callbacks=(clock,))
    assert clock.now > 3000
    rates = {step: clock.targets[step] / step for step in (6, 12, 18)}
    assert scalars()["train/tokens_per_s"] == pytest.approx(rates)


class AnotherLogger(Callback):
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.loggers = [*trainer.loggers, CSVLogger("csv")]


def test_every_logger_gets_all_figures_of_a_step_at_once(folder: Path) -> None:
    run("--trainer.log_every_n_steps", 6, callbacks=(AnotherLogger(),))
    (file,) = folder.glob("csv/**/metrics.csv")
    with open(file) as table:
        rows = [row for row in csv.DictReader(table) if row["train/loss"]]
    assert [row["step"] for row in rows] == ["6", "12", "18"]
    assert all(float(row["train/tokens_per_s"]) > 0 for row in rows)
    logged = scalars()
    assert [float(row["train/loss"]) for row in rows] == pytest.approx(
        list(logged["train/loss"].values())
    )


def test_losses_are_looked_at_now_and_then_even_if_nothing_is_logged(tmp_path: Path) -> None:
    checkpoint = TrainingCheckpoint(tmp_path, every_n_steps=10**6)
    trainer = SimpleNamespace(log_every_n_steps=10**6, global_step=0, world_size=1)
    with pytest.raises(DivergedError, match="not finite since step 3;"):
        for step in range(1, 1000):
            trainer.global_step = step
            loss = torch.tensor(float("nan") if step == 3 else 1.0)
            checkpoint.on_train_batch_end(trainer, None, {"loss": loss}, None, 0)
    assert trainer.global_step == 100


def test_a_run_that_nobody_profiles_makes_no_generators(folder: Path) -> None:
    profilers = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            profilers.append(trainer.profiler)

    run("--trainer.max_steps", 1, callbacks=(Look(),))
    assert isinstance(profilers[0], Unprofiled)
    with profilers[0].profile("a hook") as profile:
        assert not inspect.isgenerator(getattr(profile, "gen", None))
    run("--trainer.max_steps", 1, "--trainer.profiler", "simple", callbacks=(Look(),))
    assert "run_training_batch" in profilers[1].recorded_durations
