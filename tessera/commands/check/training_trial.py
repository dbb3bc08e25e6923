"""The training of ``tessera check``, at which criteria 2, 3 and 4 look.

It is what ``tessera fit`` does, made short: TesseraModule, GameDataModule, a Lightning trainer and
the monitor, in a temporary folder of which nothing is left.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.commands.check.criteria import WANTED_FALL
from tessera.commands.check.trials import (
    MEAN_OF,
    MonitorReading,
    Tell,
    TrainingRun,
    described,
    last_loss,
)
from tessera.commands.quiet import quieten
from tessera.data import GameDataModule
from tessera.monitor import TesseraMonitor
from tessera.training import TesseraModule
from tessera.training.interruption import keep_signals
from tessera.training.kernels import KernelsTogether
from tessera.transfers import to_host
from tessera.vocabulary import num_tokens

_READ_EVERY = 10  # steps between two looks at the losses, which wait for the GPU
# A short training is looked at more closely than a long one; tables would hide what is found.
_MONITOR: dict[str, Any] = {
    "game_every": 10,
    "memory_every": 10,
    "summary_every": 0,
    "copies_every": 20,
    "copies_time_ratio": 1.0,
}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What is trained; names as in YAML.

    Attributes:
        min_steps: steps before an early end, so that the monitor has sampled everything.
    """

    batch_size: int
    games_per_chunk: int
    d_model: int
    lr: float
    board_size: int = 9
    context: int | None = None
    warmup_steps: int = 40
    n_layers: int = 1
    max_steps: int = 1000
    min_steps: int = 60
    precision: str | None = None

    def __str__(self) -> str:
        games = "whole games" if self.context is None else f"windows of {self.context} moves"
        return f"{self.board_size}×{self.board_size}, {games}, d_model {self.d_model}"


# The quickstart's model, whose loss falls by a tenth in about a hundred steps.
CPU_TRAINING = TrainingSettings(batch_size=16, games_per_chunk=512, d_model=64, lr=1e-2)
# The design's width on the same board. On 19×19 a tenth is out of reach in 1000 steps: whoever
# knows the last 64 moves, and how likely the neighbours of the last one are, is 6 % below ln 364.
GPU_TRAINING = TrainingSettings(
    batch_size=64, games_per_chunk=4096, d_model=256, lr=3e-3, precision="bf16-mixed"
)


def train(settings: TrainingSettings, device: torch.device, seed: int, tell: Tell) -> TrainingRun:
    """Train until the loss has fallen far enough, or for ``max_steps``.

    Early means: the mean loss of the last ``MEAN_OF`` steps is ``WANTED_FALL`` below the first.

    Args:
        settings: what is trained.
        device: where.
        seed: of the weights and of the games.
        tell: how much is done.
    """
    quieten()
    watch = _Watch(settings, tell)
    monitor, fault = None, ""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = TesseraModule(
                vocab_size=num_tokens(settings.board_size),
                d_model=settings.d_model,
                n_layers=settings.n_layers,
                lr=settings.lr,
                warmup_steps=settings.warmup_steps,
                decay_steps=settings.max_steps,
            )
        data = GameDataModule(
            board_size=settings.board_size,
            context=settings.context,
            batch_size=settings.batch_size,
            games_per_chunk=settings.games_per_chunk,
            seed=seed,
        )
        monitor = TesseraMonitor(
            board_size=settings.board_size, rules=data.settings.rules, **_MONITOR
        )
        with tempfile.TemporaryDirectory(prefix="tessera-check-") as folder:
            trainer = Trainer(
                accelerator=device.type,
                devices=1 if device.type == "cpu" else [device.index or 0],
                precision=settings.precision,  # type: ignore[arg-type]
                max_steps=settings.max_steps,
                max_epochs=-1,
                gradient_clip_val=1.0,
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
                callbacks=[KernelsTogether(), watch, monitor],
            )
            keep_signals(trainer)
            trainer.fit(module, datamodule=data)
    except Exception as error:  # it is what was found, not an end of the check
        fault = described(error)
    floor_nats, excess_nats = watch.means()
    return TrainingRun(
        name=str(settings),
        device=device.type,
        vocab_size=num_tokens(settings.board_size),
        max_steps=settings.max_steps,
        losses=tuple(watch.losses),
        floor_nats=floor_nats,
        excess_nats=excess_nats,
        monitor=None if monitor is None or fault else _reading(monitor),
        fault=fault,
    )


class _Watch(Callback):
    """Keeps every step's loss on the device, reads some at a time, and ends the training."""

    def __init__(self, settings: TrainingSettings, tell: Tell) -> None:
        self.losses: list[float] = []
        self._others: list[list[float]] = []
        self._unread: list[Tensor] = []
        self._settings, self._tell = settings, tell
        self._done = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the step's figures; now and then read them."""
        loss = outputs["loss"].detach()
        count = (batch.targets != pl_module.pad_token).sum()
        floor, excess = batch.entropies.sum() / count, loss + batch.log_probs.sum() / count
        self._unread.append(torch.stack([loss, floor, excess]))
        if trainer.global_step % _READ_EVERY == 0 and self._is_enough():
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the last steps."""
        self._read()

    def means(self) -> tuple[float, float]:
        """Floor and excess in nats, means over the last steps; NaN if there were none."""
        last = self._others[-MEAN_OF:]
        if not last:
            return math.nan, math.nan
        floor, excess = (sum(column) / len(last) for column in zip(*last, strict=True))
        return floor, excess

    def _read(self) -> None:
        if self._unread:
            unread, self._unread = self._unread, []
            for loss, *others in to_host(torch.stack(unread), "check").tolist():
                self.losses.append(loss)
                self._others.append(others)

    def _is_enough(self) -> bool:
        self._read()
        steps, first = len(self.losses), self.losses[0]
        fall = 1 - last_loss(self.losses) / first
        reached = fall / WANTED_FALL if math.isfinite(fall) else 0.0
        self._done = max(self._done, steps / self._settings.max_steps, min(1.0, reached))
        self._tell(self._done)
        if not all(map(math.isfinite, self.losses[-_READ_EVERY:])):
            return True
        return steps >= self._settings.min_steps and reached >= 1


def _reading(monitor: TesseraMonitor) -> MonitorReading:
    return MonitorReading(
        latest=dict(monitor.latest),
        why_absent=dict(monitor.why_absent),
        num_transfers=monitor.transfers.num,
        mean_ms=monitor.transfers.mean_ms,
        max_ms=monitor.transfers.max_ms,
        unowned_copies=tuple(str(copy) for copy in monitor.unowned_copies),
        num_profiled_steps=monitor.num_profiled_steps,
    )
