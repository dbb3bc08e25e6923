"""What is done by the clock in several processes: all go by that of the first one.

Asking for it costs a wait for the GPU, so they do it every ``log_every_n_steps`` and not at each
step. If each went by its own clock, one would validate while another one trains, and they would
wait for each other for ever.
"""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from tessera.transfers import owned


def share_clock(trainer: Trainer) -> None:
    """Let ``max_time`` and a ``val_check_interval`` in hours go by the first process's clock."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for place, callback in enumerate(callbacks):
        if type(callback) is Timer:
            callbacks[place] = SharedTimer.of(callback)
    interval_s: float | None = trainer._val_check_time_interval  # type: ignore[attr-defined]
    if interval_s is not None:
        callbacks.append(SharedInterval(interval_s))


class SharedTimer(Timer):
    """Lightning's time limit, looked at seldom."""

    _asked_at = 0

    @classmethod
    def of(cls, timer: Timer) -> SharedTimer:
        """With another timer's settings."""
        seconds = timer._duration
        duration = None if seconds is None else timedelta(seconds=seconds)
        return cls(duration, timer._interval, timer._verbose)

    @property
    def state_key(self) -> str:
        """In checkpoints it is Lightning's."""
        return Timer.__qualname__

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop the run if the time is over."""
        if _is_to_ask(trainer, self._asked_at):
            self._asked_at = trainer.global_step
            with owned("max_time"):
                super().on_train_batch_end(trainer, *args, **kwargs)


class SharedInterval(Callback):
    """Lets Lightning's loop validate when the time has come, and not before.

    Args:
        interval_s: from the end of a validation to the beginning of the next one.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._asked_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Not yet."""
        self._validate_after(trainer, math.inf)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """After this batch, if it is time."""
        is_due = False
        if _is_to_ask(trainer, self._asked_at):
            self._asked_at = trainer.global_step
            last: float = trainer._last_val_time  # type: ignore[attr-defined]
            is_due = time.monotonic() - last >= self._interval_s
            with owned("val_check_interval"):
                is_due = trainer.strategy.broadcast(is_due)
        self._validate_after(trainer, 0.0 if is_due else math.inf)

    def _validate_after(self, trainer: Trainer, seconds: float) -> None:
        trainer._val_check_time_interval = seconds  # type: ignore[attr-defined]


def _is_to_ask(trainer: Trainer, asked_at: int) -> bool:
    log_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    # Until a step is whole the step before it is the newest one.
    return trainer.global_step % log_every == 0 and trainer.global_step != asked_at
