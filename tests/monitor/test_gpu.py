"""On a GPU: every alert for a real cause, and the two promises of a watched run.

The slow ones train configs/tessera.yaml: ``pytest tests/monitor/test_gpu.py -m gpu -s``.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tessera.data import GameStream, StreamSettings
from tessera.go import Rules
from tessera.monitor import MemoryProbe, TesseraMonitor
from tessera.training.module import TesseraModule
from tessera.training.optimizer import GraphedAdamW
from tests.monitor.runs import run

pytestmark = pytest.mark.gpu

MIB = 2**20
OFTEN: list[object] = ["--monitor.memory_every", 2, "--monitor.state_every", 2]
OFTEN += ["--defragmentation.enabled", "false"]


class Plant(Callback):
    """Holds what ``make`` returns from the fifth step on."""

    def __init__(self, make: Any) -> None:
        self.make, self.held = make, None

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 5:
            self.held = self.make()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.held = None
        torch.cuda.empty_cache()


class Card:
    """The card as the monitor reads it, but that what others hold of it is said here.

    Other tests may use the same card at this moment.

    Attributes:
        of_others: which part of it others hold.
    """

    of_others = 0.0

    def __init__(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        self._before = torch.cuda.memory_reserved()  # of tests before this one
        self._read = MemoryProbe._read_card

    def read(self, probe: MemoryProbe) -> tuple[int, int]:
        """Bytes in use, and all that there are."""
        used, total = self._read(probe)
        held = torch.cuda.memory_reserved(probe.device)
        assert held <= used <= total
        return int(self.of_others * total) + max(held - self._before, 0), total


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setattr(MemoryProbe, "_read_card", lambda probe: card.read(probe))
    return card


def alerts_of(monitor: TesseraMonitor) -> list[str]:
    """What was wrong, but for how long a copy took: with others beside it that says nothing."""
    return [alert.metric for alert in monitor.alerts if alert.metric != "time_transfer"]


def fill_the_card() -> torch.Tensor:
    """With what is left of a card of which others hold 84 %."""
    size = torch.cuda.get_device_properties().total_memory // 50
    return torch.empty(size, dtype=torch.uint8, device="cuda")


def leave_holes() -> list[torch.Tensor]:
    blocks = [torch.empty(64 * MIB, dtype=torch.uint8, device="cuda") for _ in range(40)]
    del blocks[::2]
    return blocks


@pytest.mark.parametrize(
    ("plant", "of_others", "metric"),
    [(fill_the_card, 0.84, "vram_used_ratio"), (leave_holes, 0.0, "fragmentation_ratio")],
)
def test_memory_that_is_full_or_has_holes_is_one_alert(
    folder: Path, card: Card, plant: Any, of_others: float, metric: str
) -> None:
    card.of_others = of_others
    monitor = run(*OFTEN, callbacks=(Plant(plant),))
    assert alerts_of(monitor) == [metric], monitor.alerts
    assert monitor.alerts[0].step >= 5, monitor.alerts


def test_a_state_that_diverges_is_one_alert(folder: Path, card: Card) -> None:
    diverge = ["--model.lr", 1, "--model.warmup_steps", 0, "--model.weight_decay", 0]
    monitor = run(*OFTEN, *diverge, "--trainer.gradient_clip_val", "null")
    assert alerts_of(monitor) == ["ssm_state_norm"], monitor.alerts


def test_all_metrics_are_measured_and_nothing_is_wrong(folder: Path, card: Card) -> None:
    monitor = run("--monitor.memory_every", 5, "--trainer.max_steps", 60)
    assert monitor.why_absent == {} and alerts_of(monitor) == [], monitor.alerts


LAUNCHES = """
import os, statistics, time, torch
from tessera.monitor import CopyProbe

numbers = torch.zeros(1, device="cuda")

def us_of_a_launch():
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(500):
            numbers.add_(1)
        times.append((time.perf_counter() - began) / 500 * 1e6)
    return statistics.median(times)

us_of_a_launch()
before, probe = us_of_a_launch(), CopyProbe(numbers.device)
for _ in range(3):
    probe.start()
    numbers.cpu()
    assert len(probe.stop()) == 1
print(us_of_a_launch() / before)
"""


@pytest.mark.slow  # by itself: others at the same moment slow launches down
@pytest.mark.parametrize("stays", ["0", None])
def test_a_recording_leaves_launches_as_fast_as_they_were(stays: str | None) -> None:
    """In a process of its own: what recorded before would have slowed this one down already."""
    environment = {**os.environ, **({} if stays is None else {"TEARDOWN_CUPTI": stays})}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    print(f"\nTEARDOWN_CUPTI={stays}: a launch takes {float(done.stdout):.2f} times as long")
    if stays is None:
        assert float(done.stdout) < 1.1


# What configs/tessera.yaml does.


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_steps_make_no_copy_that_nobody_owns(folder: Path, repository: Path) -> None:
    record = ["--monitor.copies_every", 20, "--monitor.copies_steps", 20]
    monitor = run(
        *record,
        *["--monitor.copies_time_ratio", 1, "--trainer.max_steps", 1010],
        *["--trainer.val_check_interval", 500],
        config=repository / "configs" / "tessera.yaml",
    )
    print(f"\n{monitor.num_profiled_steps} steps, {monitor.transfers}")
    print(*monitor.transfers_by_owner.items(), sep="\n")
    assert monitor.num_profiled_steps >= 1000
    assert monitor.unowned_copies == [], [str(copy) for copy in monitor.unowned_copies[:5]]
    assert monitor.transfers.mean_ms < 0.5 and monitor.transfers.max_ms < 1.0
    assert monitor.alerts == []


FIRST, LAST = 100, 500  # steps of a measurement


class Speed(Callback):
    """Milliseconds of a step, from step FIRST to step LAST."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx in (FIRST, LAST):
            torch.cuda.synchronize()
            self.ms = (time.perf_counter() - getattr(self, "began", 0.0)) * 1e3 / (LAST - FIRST)
            self.began = time.perf_counter()


# The games and the model of a configuration, as a bare loop takes them.
BARE: dict[str, tuple[StreamSettings, dict[str, Any]]] = {
    "tessera": (StreamSettings(batch_size=4096, games_per_chunk=16384), {}),
    "uniform_9x9": (
        StreamSettings(
            board_size=9,
            rules=Rules(max_moves=128),
            player="uniform",
            context=None,
            batch_size=1024,
            games_per_chunk=16384,
        ),
        {"n_layers": 4, "vocab_size": 84},
    ),
}


def bare_loop_ms(config: str) -> float:
    """The same training without Lightning, replayed as well: milliseconds of a step."""
    settings, sizes = BARE[config]
    torch.manual_seed(0)
    model = TesseraModule(**sizes).model.cuda().train()
    model.graph_training()
    stream = GameStream(settings, device="cuda")
    stream.length_step = 32
    optimizer = GraphedAdamW([{"params": list(model.parameters()), "weight_decay": 0.1}], 1e-3)
    optimizer.clip = (1.0, "norm")
    for index in range(LAST):
        if index == FIRST:
            torch.cuda.synchronize()
            began = time.perf_counter()
        batch = stream.batch(index)
        with torch.autocast("cuda", torch.bfloat16):
            losses = model(batch.inputs, batch.targets)
        optimizer.zero_grad()
        (losses.sum() / (batch.targets != model.pad_token).sum()).backward()
        optimizer.step()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) * 1e3 / (LAST - FIRST)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("config", BARE)
def test_a_watched_run_is_as_fast_as_an_unwatched_one_and_nearly_as_a_bare_loop(
    folder: Path, repository: Path, config: str
) -> None:
    times: dict[str, list[float]] = {"true": [], "false": [], "bare": []}
    for enabled in 3 * ["false", "true"]:
        speed = Speed()
        options = ["--monitor.enabled", enabled, "--defragmentation.enabled", "false"]
        options += ["--trainer.max_steps", LAST + 1, "--trainer.val_check_interval", 5000]
        run(*options, callbacks=(speed,), config=repository / "configs" / f"{config}.yaml")
        times[enabled].append(speed.ms)
        if enabled == "true":
            times["bare"].append(bare_loop_ms(config))
    print(f"\nms a step: watched {times['true']}, unwatched {times['false']}, bare {times['bare']}")
    watched, unwatched, bare = (statistics.median(times[who]) for who in ("true", "false", "bare"))
    assert unwatched / watched >= 0.99
    assert bare / watched >= 0.95
