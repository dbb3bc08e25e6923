"""Tokens per second of training."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.data import GameBatch
from tessera.training.module import TesseraModule
from tessera.transfers import to_host


class Throughput(Callback):
    """Logs ``train/tokens_per_s``: targets trained on, by all processes, over seconds.

    Playing the games counts; validation does not, and the games for it neither. Sampled every
    ``log_every_n_steps`` over the last ten samples, because games are played many at once; it waits
    for the GPU only then.
    """

    def __init__(self) -> None:
        self._tokens: Tensor | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=11)  # seconds, tokens
        self._paused_s = self._step_ended = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._step_ended = time.monotonic()
        self._tokens = torch.zeros((), dtype=torch.int64, device=pl_module.device)
        self._samples.append((self._clock(), 0))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out all since the last step, and go on."""
        # Before on_validation_start Lightning takes the first batch, whose games have to be played.
        self._paused_s += time.monotonic() - self._step_ended

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
    ) -> None:
        """Count the batch, and log when it is time to."""
        assert self._tokens is not None and isinstance(pl_module, TesseraModule)
        self._tokens += batch.targets.ne(pl_module.pad_token).sum()
        log_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (batch_idx + 1) % (log_every * trainer.accumulate_grad_batches) == 0:
            self._samples.append((self._clock(), int(to_host(self._tokens, "throughput"))))
            (since, before), (now, tokens) = self._samples[0], self._samples[-1]
            rate = trainer.world_size * (tokens - before) / max(now - since, 1e-9)
            pl_module.note("train/tokens_per_s", torch.tensor(rate))
        self._step_ended = time.monotonic()

    def _clock(self) -> float:
        """Seconds of training, without validation."""
        return time.monotonic() - self._paused_s
