"""The checkpoint of a short run that is seldom interrupted: now and then, and none at the end."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from tessera.commands.compare.pace import Pace
from tessera.training.checkpointing import TrainingCheckpoint

_EVERY_S = 30.0


class RunCheckpoint(TrainingCheckpoint):
    """Keeps ``last.ckpt`` every half a minute, and when the run is interrupted.

    It is never written behind a step that a validation follows, whose figures are part of it; who
    interrupts there waits for the validation.

    Args:
        folder: where ``last.ckpt`` goes.
        points: the steps that a validation follows.
        pace: of the same run; saving is not timed.
        keeps_last: whether the end of the run is saved too.
    """

    def __init__(
        self, folder: str | Path, points: Collection[int], pace: Pace, keeps_last: bool = False
    ) -> None:
        super().__init__(folder)
        self._points, self._pace, self._keeps_last = points, pace, keeps_last
        self._saved_at = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether to save behind this step."""
        is_time = time.monotonic() - self._saved_at >= _EVERY_S
        return (self.is_stopping or is_time) and step not in self._points

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a signal was received meanwhile, or just before."""
        if self.is_stopping:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that the end is one that counts."""
        if self._keeps_last:
            super().on_train_end(trainer, pl_module)
        else:
            self.check(trainer, pl_module)

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``last.ckpt``, unless training has diverged."""
        with self._pace.paused(pl_module.device):
            super().save(trainer, pl_module)
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: where the file lies is said anew."""
        return {}
