"""How a training step's figures get into the run's loggers."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import Trainer
from torch import Tensor


def write(trainer: Trainer, values: Mapping[str, Tensor]) -> None:
    """Write what was measured of the step that was just made; callbacks can read it too.

    Lightning's own ``log`` does the same, but takes a good part of a small step for each value, and
    goes through all of them again at every step.

    Args:
        trainer: of the run.
        values: scalars on the host by tag, ``train/loss``.
    """
    numbers = {tag: float(value) for tag, value in values.items()}
    for logger in trainer.loggers:
        logger.log_metrics(numbers, trainer.global_step)
    trainer.callback_metrics.update(values)
