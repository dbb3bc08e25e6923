"""Tokens per second of training."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.data import GameBatch


class Throughput(Callback):
    """Logs ``train/tokens_per_s``: targets trained on, by all processes, over seconds.

    Playing the games counts, validation and checkpoints do not. Sampled every
    ``log_every_n_steps``, and waits for the GPU only then.
    """

    def __init__(self) -> None:
        self._tokens: Tensor | None = None
        self._since = self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._restart(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        self._since += time.monotonic() - self._paused

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
    ) -> None:
        """Count the batch, and log when it is time to."""
        assert self._tokens is not None
        self._tokens += (batch.targets != pl_module.pad_token).sum()
        if (batch_idx + 1) % (trainer.log_every_n_steps * trainer.accumulate_grad_batches) == 0:
            tokens = int(self._tokens) * trainer.world_size
            rate = tokens / max(time.monotonic() - self._since, 1e-9)
            pl_module.log("train/tokens_per_s", rate, batch_size=1)
            self._restart(pl_module)

    def _restart(self, pl_module: LightningModule) -> None:
        self._tokens = torch.zeros((), dtype=torch.int64, device=pl_module.device)
        self._since = time.monotonic()
