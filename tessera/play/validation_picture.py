"""Pictures that a validation leaves in TensorBoard."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class ValidationPicture(Callback):
    """Adds an image to the log after a validation.

    Args:
        every_n_validations: 1 is every validation; 0 is never.
    """

    tag: ClassVar[str]  # of the image

    def __init__(self, every_n_validations: int = 1) -> None:
        self.every_n_validations = every_n_validations
        self._validations = 0

    @abstractmethod
    def drawn(self, trainer: Trainer, pl_module: LightningModule) -> Tensor | None:
        """The image, (3, height, width) uint8 on the CPU; None if there is nothing to be drawn."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if it is this validation's turn and there is a log that takes images."""
        if trainer.sanity_checking or not self.every_n_validations or not trainer.is_global_zero:
            return
        self._validations += 1
        writer: Any = getattr(trainer.logger, "experiment", None)
        if (self._validations - 1) % self.every_n_validations or not hasattr(writer, "add_image"):
            return
        if (image := self.drawn(trainer, pl_module)) is not None:
            writer.add_image(self.tag, image, trainer.global_step)
