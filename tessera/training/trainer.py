"""Lightning's trainer with the settings that streams without an end have a meaning for."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy

from tessera.training.shared_clock import share_clock


class StreamTrainer(Trainer):
    """A trainer whose limits are numbers of batches: a share of an endless stream is no number.

    Lightning takes ``1`` and ``1.0`` for one batch and for all of them, and a parser that may
    choose reads both as ``1.0``.

    Args:
        limit_train_batches: batches in an epoch; null for the one endless epoch.
        limit_val_batches: batches of a validation, at most data.val_batches; 0 for no validation.
        limit_test_batches: batches of a test, at most data.test_batches.
        limit_predict_batches: games that predict reads.
        strategy: auto, ddp, ddp_find_unused_parameters_false or ddp_find_unused_parameters_true;
            auto and ddp are the same with several devices.
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
        strategy: str | Strategy = "auto",
        devices: int | list[int] | str = 1,
        **others: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            strategy=strategy,
            devices=devices,
            **others,
        )
        if self.world_size > 1:
            share_clock(self)
