"""Lightning's trainer with the settings that streams without an end have a meaning for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from tessera.transfers import owned


class StreamTrainer(Trainer):
    """A trainer whose limits are numbers of batches: a share of an endless stream is no number.

    Lightning takes ``1`` and ``1.0`` for one batch and for all of them, and a parser that may
    choose reads both as ``1.0``.

    Args:
        limit_train_batches: batches in an epoch; null for the one endless epoch.
        limit_val_batches: batches of a validation, at most data.val_batches; 0 for no validation.
        limit_test_batches: batches of a test, at most data.test_batches.
        limit_predict_batches: games that predict reads.
        devices: how many, their numbers, or auto for all there are.
        others: as for Lightning's trainer.
    """

    def __init__(
        self,
        *,
        limit_train_batches: int | None = None,
        limit_val_batches: int | None = None,
        limit_test_batches: int | None = None,
        limit_predict_batches: int | None = None,
        devices: int | list[int] | str = 1,
        **others: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            devices=devices,
            **others,
        )
        callbacks: list[Callback] = self.callbacks  # type: ignore[attr-defined]
        for place, callback in enumerate(callbacks):
            if type(callback) is Timer:
                callbacks[place] = SharedTimer.of(callback)


class SharedTimer(Timer):
    """Lightning's time limit, for several processes too, which ask the first one's clock for it.

    That costs a wait for the GPU, so they do it every ``log_every_n_steps`` and not at each step.
    """

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
        log_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.world_size > 1:
            step = trainer.global_step
            # Until a step is whole the step before it is the newest one.
            if step % log_every or step == self._asked_at:
                return
            self._asked_at = step
        with owned("max_time"):
            super().on_train_batch_end(trainer, *args, **kwargs)
