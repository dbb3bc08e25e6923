"""How fast a run trains, and in how much memory, without the validations and the saving."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.data import GameBatch
from tessera.transfers import to_host

_MOST_FIRST_STEPS = 10  # of a process; they compile, capture and play the first games


class Pace(Callback):
    """Counts targets trained on, and the seconds of the steps behind the first few.

    The first steps of each process are not timed: a tenth of all, one to ten. The seconds of a run
    are its steps times the mean of those that were timed. Nothing waits for the GPU but at the
    beginning and the end of what is timed, which a validation or a checkpoint is not.

    Args:
        num_steps: optimizer steps of the whole run.
        pad_token: what is no target.

    Attributes:
        steps: optimizer steps of the run, as far as it has come.
        peak_bytes: the most memory that torch had given out on a GPU while it trained; None on a
            CPU, which does not say.
    """

    def __init__(self, num_steps: int, pad_token: int) -> None:
        self._num_first = max(1, min(_MOST_FIRST_STEPS, num_steps // 10))
        self._pad_token = pad_token
        self._tokens: Tensor | None = None
        self._tokens_before = 0  # of earlier processes
        self._timed_steps, self._timed_s = 0, 0.0
        self._since: float | None = None  # what is being timed began; None while nothing is
        self._first_step = self.steps = 0
        self.peak_bytes: int | None = None

    @property
    def tokens(self) -> int:
        """Targets trained on."""
        here = 0 if self._tokens is None else int(to_host(self._tokens, "pace"))
        return self._tokens_before + here

    @property
    def is_timing(self) -> bool:
        """Whether steps are being timed just now."""
        return self._since is not None

    @property
    def step_s(self) -> float | None:
        """Mean seconds of a step; None as long as none was timed."""
        return self._timed_s / self._timed_steps if self._timed_steps else None

    @property
    def seconds(self) -> float | None:
        """Seconds of all steps; None as long as none was timed."""
        return None if self.step_s is None else self.step_s * self.steps

    @contextlib.contextmanager
    def paused(self, device: torch.device) -> Iterator[None]:
        """Time nothing of what is done within the ``with`` statement, nor look at its memory."""
        was_running = self._since is not None
        self._halt(device)
        try:
            yield
        finally:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            if was_running:
                self._go_on(device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._tokens = torch.zeros((), dtype=torch.int64, device=pl_module.device)
        self._first_step = self.steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
    ) -> None:
        """Count the batch, and begin to time behind the first steps."""
        assert self._tokens is not None
        self._tokens += batch.targets.ne(self._pad_token).sum()
        if trainer.global_step == self.steps:  # gradients are still being accumulated
            return
        self.steps = trainer.global_step
        if self._since is not None:
            self._timed_steps += 1
        elif self.steps - self._first_step == self._num_first:
            self._go_on(pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time no longer."""
        self._halt(pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on takes over."""
        return {
            "tokens": self.tokens,
            "steps": self.steps,
            "timed_steps": self._timed_steps,
            "timed_s": self._timed_s,
            "peak_bytes": self.peak_bytes,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._tokens_before, self.steps = state_dict["tokens"], state_dict["steps"]
        self._timed_steps, self._timed_s = state_dict["timed_steps"], state_dict["timed_s"]
        self.peak_bytes = state_dict["peak_bytes"]

    def _halt(self, device: torch.device) -> None:
        if device.type == "cuda":
            here = torch.cuda.max_memory_allocated(device)
            self.peak_bytes = max(here, self.peak_bytes or 0)
        if self._since is not None:
            self._timed_s += _now(device) - self._since
            self._since = None

    def _go_on(self, device: torch.device) -> None:
        self._since = _now(device)


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
