"""The training loop copies nothing between host and GPU but what has an owner."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.data import GameStream, StreamSettings
from tessera.monitor import TesseraMonitor
from tessera.training.metrics import NextMoveMetrics
from tests.monitor.runs import run

# What copies on a GPU: reading a number, making a tensor of Python's, and whatever has to know how
# many elements are True.
COPYING = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "equal")
# Games are played in plain torch here; the optimizer keeps its count of steps on the host.
ELSEWHERE = ("tessera/go/", "torch/optim/")
LOG = ["--trainer.log_every_n_steps", 10]


class Watch(TorchDispatchMode):
    """Notes by step which operators would have copied on a GPU, and where they were called."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.found: dict[int, set[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in COPYING or by_mask:
            frames = [
                frame for frame in traceback.extract_stack() if "torch/" not in frame.filename
            ]
            every = [frame.filename for frame in traceback.extract_stack()]
            if not any(part in file for part in ELSEWHERE for file in every):
                at = frames[-2]
                place = f"{name} at {Path(at.filename).name}:{at.lineno}"
                self.found.setdefault(self.step, set()).add(place)
        return func(*args, **(kwargs or {}))


class Steps(Callback):
    """Tells the watch which step runs: from its first hook to the beginning of the next step."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self.watch.step = trainer.global_step + 1


class Careless(Callback):
    """Looks at the loss at every step, as one might while searching for a fault."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any
    ) -> None:
        outputs["loss"].cpu().item()


def copying(callbacks: list[Callback], *options: object) -> dict[int, set[str]]:
    """What was found at each step of a run of 30."""
    watch = Watch()
    given = ["--trainer.max_steps", 30, "--trainer.val_check_interval", 20]
    # The progress line reads its figures by the clock, not by the step.
    given += ["--checkpoint_every_n_steps", 10, "--trainer.enable_progress_bar", "false"]
    with watch:
        run(*LOG, *given, *options, callbacks=(Steps(watch), *callbacks))
    return {step: places for step, places in watch.found.items() if step > 0}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_logged_copies_nothing(folder: Path, accumulate: int) -> None:
    found = copying([], "--trainer.accumulate_grad_batches", accumulate)
    assert {step: places for step, places in found.items() if step % 10} == {}


def test_a_copy_at_every_step_is_found(folder: Path) -> None:
    found = copying([Careless()])
    assert all("_local_scalar_dense at test_copies.py" in str(found[step]) for step in range(1, 31))


def test_a_validation_step_copies_nothing() -> None:
    settings = StreamSettings(board_size=3, batch_size=4, games_per_chunk=4, context=12)
    batch = GameStream(settings, needs=["legal"]).batch(0)
    metrics, watch = NextMoveMetrics(), Watch()
    with watch:
        metrics.update(torch.zeros(*batch.targets.shape, 12), batch)
    assert watch.found == {}


RECORD_ALL = ["--monitor.copies_every", 5, "--monitor.copies_steps", 5]
RECORD_ALL += ["--monitor.copies_time_ratio", 1, "--trainer.max_steps", 60]


def recorded(context: str) -> TesseraMonitor:
    """The monitor of a run whose copies were recorded, nearly all of them."""
    precision = ["--trainer.precision", "bf16-mixed", "--monitor.summary_every", 20]
    return run(*LOG, *RECORD_ALL, *precision, "--data.context", context)


@pytest.mark.gpu
@pytest.mark.parametrize("context", ["12", "null"])
def test_the_gpu_sees_no_copy_that_nobody_owns(folder: Path, context: str) -> None:
    monitor = recorded(context)
    assert monitor.num_profiled_steps >= 50
    assert monitor.unowned_copies == [], [str(copy) for copy in monitor.unowned_copies]
    assert monitor.latest["unowned_copies"] == 0
    assert monitor.transfers.num > 0
    assert not any(alert.metric == "unowned_copies" for alert in monitor.alerts)


@pytest.mark.gpu
@pytest.mark.slow  # by itself: others at the same moment make copies longer
@pytest.mark.parametrize("context", ["12", "null"])
def test_no_copy_takes_a_millisecond(folder: Path, context: str) -> None:
    monitor = recorded(context)
    assert monitor.transfers.num > 0 and monitor.transfers.max_ms < 1.0, monitor.transfers
    assert not any(alert.severity == "design violation" for alert in monitor.alerts)


@pytest.mark.gpu
def test_the_gpu_sees_a_planted_copy_and_the_monitor_names_it(folder: Path) -> None:
    monitor = run(*LOG, *RECORD_ALL, callbacks=(Careless(),))
    (alert,) = [alert for alert in monitor.alerts if alert.metric == "unowned_copies"]
    assert alert.severity == "design violation" and "aten::copy_" in alert.message
    assert "4 bytes" in alert.message and "DtoH" in alert.message
    assert len(monitor.unowned_copies) >= 50
    assert {copy.operator for copy in monitor.unowned_copies} == {"aten::copy_"}
