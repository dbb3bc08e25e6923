"""What goes into TensorBoard besides the scalars a module logs, and what stays out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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

    @property
    def experiment(self) -> Any:
        """The writer; one that writes nowhere once the folder cannot be written to."""
        if self.is_lost:
            return _Nowhere()
        try:
            writer = super().experiment  # opens its file the first time
        except OSError as error:
            return self.lose(error)
        if self._experiment is None:  # not the first process, which alone writes
            return writer
        return _Writer(writer, Path(self.log_dir), self.lose)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write what has a group, as one event: one for each number would cost a step's time."""
        values = [
            Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in metrics.items()
            if "/" in tag
        ]
        writer = self.experiment._get_file_writer()
        if values and writer is not None:
            writer.add_summary(Summary(value=values), step)

    def save(self) -> None:
        """Write out what is not on the disk yet."""
        try:
            super().save()
        except OSError as error:
            self.lose(error)

    def lose(self, error: OSError) -> _Nowhere:
        """Say, the first time, that nothing is written any more."""
        if not self.is_lost:
            self.is_lost = True
            reason = f"{type(error).__name__}: {error}"
            line = f"tessera: {self.log_dir}: no curves are written from now on ({reason})."
            tqdm.write(line, file=sys.stderr)
        return _Nowhere()


class _Nowhere:
    """A writer whose every method does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class _Writer:
    """TensorBoard's writer; if it fails, ``fail`` is called and nothing is raised."""

    def __init__(self, writer: Any, folder: Path, fail: Callable[[OSError], Any]) -> None:
        self._writer, self._folder, self._fail = writer, folder, fail

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._writer, name)
        if not callable(method):
            return method

        def careful(*args: Any, **kwargs: Any) -> Any:
            try:
                # Asked first: it is a thread of TensorBoard's that would fail, with a traceback.
                if not self._folder.is_dir():
                    raise FileNotFoundError(f"{self._folder} is gone")
                return method(*args, **kwargs)
            except OSError as error:
                return self._fail(error)

        return careful


class SaveSettings(SaveConfigCallback):
    """Writes all settings beside the logs, and into TensorBoard's text tab."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called once, on the first process."""
        logger = trainer.logger
        if isinstance(logger, TensorBoardLogger):
            text = self.parser.dump(self.config, skip_none=False)
            folder = Path(logger.log_dir)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / self.config_filename).write_text(text)
            except OSError as error:
                if not isinstance(logger, GroupedLogger):
                    raise
                logger.lose(error)
            indented = "\n".join(f"    {line}" for line in text.splitlines())
            logger.experiment.add_text("settings", indented, trainer.global_step)
