"""A picture of the calibration in TensorBoard."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from tessera.play.picture import in_pixels
from tessera.play.validation_picture import ValidationPicture
from tessera.training.calibration_drawing import calibration_drawing
from tessera.training.module import TesseraModule


class CalibrationPicture(ValidationPicture):
    """Adds the image ``val/calibration`` to the log after a validation, of what it has measured."""

    tag = "val/calibration"

    def drawn(self, trainer: Trainer, pl_module: LightningModule) -> Tensor | None:
        """How often moves were played, by their probability."""
        calibration = pl_module.calibration if isinstance(pl_module, TesseraModule) else None
        return None if calibration is None else in_pixels(calibration_drawing(calibration))
