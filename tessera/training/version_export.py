"""Models exported while they are trained: the versions of a run, each as a file that stays."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tessera.data import GameBatch
from tessera.training.checkpoint_file import SaveError, write_flushed, write_whole
from tessera.training.checkpoint_parts import ContentError
from tessera.training.checkpointing import TrainingCheckpoint, on_host
from tessera.training.export import exported
from tessera.training.module import TesseraModule

VERSIONS = "step_*.safetensors"


class VersionExport(Callback):
    """Writes ``step_N.safetensors`` beside ``last.ckpt``, what ``tessera export`` makes of step N.

    Args:
        checkpoint: whose folder it is.
        every_n_steps: optimizer steps between two files, at least 1.
        version: of the program.

    Raises:
        DivergedError: while training, when the loss or a weight is not finite.
        SaveError: while training, when a file cannot be written.
    """

    def __init__(self, checkpoint: TrainingCheckpoint, every_n_steps: int, version: str) -> None:
        self._checkpoint, self._every, self._version = checkpoint, every_n_steps, version
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where the run stands."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
    ) -> None:
        """Write if it is time to."""
        step, before = trainer.global_step, self._last_step
        self._last_step = step
        if step > before and step % self._every == 0:
            self._checkpoint.check(trainer, pl_module)
            self._checkpoint.write(trainer, lambda: self._export(trainer, pl_module))

    def _export(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(module, TesseraModule)
            step, games = trainer.global_step, trainer.datamodule  # type: ignore[attr-defined]
            content = {
                "global_step": step,
                "state_dict": on_host(module.published_weights()),
                "hyper_parameters": dict(module.hparams),
                "datamodule_hyper_parameters": dict(games.hparams),
            }
            path = self._checkpoint.path.with_name(f"step_{step:07}.safetensors")
            try:
                model = exported(content, None, self._version)
            except ContentError as error:
                raise SaveError(f"{path} cannot be written: {error}") from error
            write_whole(path, lambda file: write_flushed(file, model))
        trainer.strategy.barrier()
