"""Checkpoints that are never half written, and are checked before they are used."""

from __future__ import annotations

import copy
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from tessera.data import GameBatch
from tessera.training.interruption import Interruption
from tessera.transfers import to_host

LAST = "last.ckpt"
_MOST_LOSSES = 100  # that wait to be looked at, however seldom there is a log


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and says why."""


class DivergedError(RuntimeError):
    """The loss or the weights are not finite any more; the message says since when."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint file's content on the CPU, every part of it compared with its checksum.

    Raises:
        CheckpointError: if the file is missing, torn, damaged or no checkpoint of this program.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is no checkpoint: there is no such file.")
    try:
        # torch writes a zip archive with a CRC-32 of each part, but does not look at it itself.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{path} is torn or no checkpoint ({error}).") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (in its part {damaged}).")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is no checkpoint of Tessera.") from error
    if not isinstance(checkpoint, dict) or "hyper_parameters" not in checkpoint:
        raise CheckpointError(f"{path} is no checkpoint of Tessera.")
    return checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk and renames; checks a file before it is read.

    Whenever the machine stops, the target is the old file or the new one, whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with open(beside, "wb") as file:
                torch.save(_on_host(checkpoint), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
        _flush_folder(target.parent)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; primitives and tensors only."""
        return read_checkpoint(path)


class TrainingCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: every so many steps, at the end, and when the run is interrupted.

    There is no "best" checkpoint: every game is new, so the last weights are the best.

    A checkpoint is only written after a whole optimizer step, never between the batches whose
    gradients one step accumulates, and never with weights that are not finite.

    Args:
        folder: where ``last.ckpt`` goes.
        every_n_steps: optimizer steps between two checkpoints, at least 1.

    Raises:
        DivergedError: while training, when the loss or a weight is not finite.
        Stopped: while training, after a signal was received and the checkpoint written.
    """

    def __init__(self, folder: str | Path, every_n_steps: int = 500) -> None:
        self.path = Path(folder) / LAST
        self.every_n_steps = every_n_steps
        self.last_saved_step: int | None = None
        self._interruption = Interruption()
        self._last_step = 0
        self._is_stopping = False
        # Of the batches since the last look at them, each with its step.
        self._losses: list[tuple[int, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where the run stands."""
        self._last_step = trainer.global_step
        self._losses = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: GameBatch, batch_idx: int
    ) -> None:
        """Hold signals back from the first step on, and stop if the last one was to be the last.

        By now its figures are in the log.
        """
        self._interruption.listen()
        if self._is_stopping:
            raise self._interruption.error()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GameBatch,
        batch_idx: int,
    ) -> None:
        """Save if it is time to, or a signal was received."""
        step = trainer.global_step
        self._losses.append((step, outputs["loss"]))
        if step == self._last_step:  # gradients are still being accumulated
            return
        self._last_step = step
        log_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % log_every == 0 or len(self._losses) >= _MOST_LOSSES:
            self._check_losses(trainer)
        self._is_stopping = self._interruption.is_due(trainer)
        if self._is_stopping or step % self.every_n_steps == 0:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished run."""
        if self.last_saved_step != trainer.global_step:
            self.save(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hold the signals no longer."""
        self._interruption.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Hold the signals no longer: the trainer tears nothing down after this."""
        self._interruption.close()

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``last.ckpt``, unless training has diverged."""
        self._check_losses(trainer)
        finite = torch.stack([weight.isfinite().all() for weight in pl_module.parameters()])
        if not to_host(finite.all(), "finite check"):
            self._fail(trainer, f"a weight is not finite after step {trainer.global_step}")
        trainer.save_checkpoint(self.path)
        self.last_saved_step = trainer.global_step

    def _check_losses(self, trainer: Trainer) -> None:
        """Look at all losses since the last time at once: one by one each would be a copy."""
        if not self._losses:
            return
        steps, losses = zip(*self._losses, strict=True)
        self._losses = []
        for step, loss in zip(steps, to_host(torch.stack(losses), "finite check"), strict=True):
            if not loss.isfinite():
                self._fail(trainer, f"train/loss is not finite since step {step}")

    def _fail(self, trainer: Trainer, what: str) -> None:
        kept = f"{self.path} is as it was" if self.path.exists() else "nothing was saved"
        raise DivergedError(f"{what}; {kept}. Lower model.lr or trainer.gradient_clip_val.")


def _on_host(part: Any) -> Any:
    """The same part of a checkpoint with its tensors on the host; containers are copied."""
    if isinstance(part, Tensor):
        return to_host(part, "checkpoint")
    if isinstance(part, dict):
        # A shallow copy keeps what a state_dict carries besides its items.
        copied = copy.copy(part)
        copied.update({key: _on_host(value) for key, value in part.items()})
        return copied
    return [_on_host(value) for value in part] if type(part) is list else part


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
