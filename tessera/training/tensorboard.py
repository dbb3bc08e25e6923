"""What goes into TensorBoard besides the scalars a module logs, and what stays out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from tqdm import tqdm


class GroupedLogger(TensorBoardLogger):
    """TensorBoard with this program's tags only, which all have a group; no epoch, there is one.

    Curves are worth less than the run. If they cannot be written any more (the folder was deleted,
    the disk is full), one line says so, and the run goes on without them.
    """

    is_lost = False
    _experiment: Any

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; on another process than the first one that does nothing."""
        if self._experiment is None:
            # Here, because it loads half of TensorBoard.
            from tessera.training.event_file import EventWriter

            self._experiment = EventWriter(self.log_dir, self.lose)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write what has a group, as one event: one for each number would cost a step's time."""
        values = [
            Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in metrics.items()
            if "/" in tag
        ]
        if values:
            self.experiment.add_summary(Summary(value=values), step)

    def save(self) -> None:
        """Write the parameters' file, if it is not there yet."""
        try:
            super().save()
        except OSError as error:
            self.lose(error)

    def lose(self, error: OSError) -> None:
        """Say, the first time, that nothing is written any more."""
        if not self.is_lost:
            self.is_lost = True
            if self._experiment is not None:
                self._experiment.abandon()
            reason = error.strerror or str(error)
            line = f"tessera: {self.log_dir}: no curves are written from now on ({reason})."
            tqdm.write(line, file=sys.stderr)


class SaveSettings(SaveConfigCallback):
    """Writes all settings beside the logs, and into TensorBoard's text tab."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called once, on the first process."""
        logger = trainer.logger
        if isinstance(logger, TensorBoardLogger):
            text = self.parser.dump(self.config, skip_none=False)
            file = Path(logger.log_dir) / self.config_filename
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            except OSError as error:
                with contextlib.suppress(OSError):
                    file.unlink()  # half of the settings would be taken for all of them
                if not isinstance(logger, GroupedLogger):
                    raise
                logger.lose(error)
            indented = "\n".join(f"    {line}" for line in text.splitlines())
            logger.experiment.add_text("settings", indented, trainer.global_step)
