"""What goes into TensorBoard besides the scalars a module logs, and what stays out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger


class GroupedLogger(TensorBoardLogger):
    """TensorBoard with this program's tags only, which all have a group; no epoch, there is one."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write what has a group."""
        super().log_metrics({tag: value for tag, value in metrics.items() if "/" in tag}, step)


class SaveSettings(SaveConfigCallback):
    """Writes all settings beside the logs, and into TensorBoard's text tab."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called once, on the first process."""
        if isinstance(trainer.logger, TensorBoardLogger):
            text = self.parser.dump(self.config, skip_none=False)
            folder = Path(trainer.logger.log_dir)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / self.config_filename).write_text(text)
            indented = "\n".join(f"    {line}" for line in text.splitlines())
            trainer.logger.experiment.add_text("settings", indented, trainer.global_step)
