"""Checkpoints that are never half written, and are checked before they are used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from tessera.data import GameBatch
from tessera.training.checkpoint_file import SaveError, read_checkpoint, write_checkpoint
from tessera.training.interruption import Interruption
from tessera.transfers import owned, to_host

LAST = "last.ckpt"
_MOST_LOSSES = 100  # that wait to be looked at, however seldom there is a log


class DivergedError(RuntimeError):
    """The loss or the weights are not finite any more; the message says since when."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes whole files or none, and checks a file before it is read.

    Args:
        has_timer: whether what reads it has a limit of time; what has none has no use for the time
            that a run with one has taken, and Lightning would warn that nobody asked for it.
    """

    def __init__(self, has_timer: bool = True) -> None:
        super().__init__()
        self._has_timer = has_timer

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            SaveError: if it cannot be written; the file before it is untouched.
        """
        write_checkpoint(on_host(checkpoint), path)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; primitives and tensors only.

        Raises:
            CheckpointError: if it is not whole.
        """
        checkpoint = read_checkpoint(path)
        if not self._has_timer:
            checkpoint.get("callbacks", {}).pop("Timer", None)
        return checkpoint


class TrainingCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: every so many steps, at the end, and when the run is interrupted.

    There is no "best" checkpoint: every game is new, so the last weights are the best.

    Who saved behind a step that a validation followed saves once more when the run ends there: what
    the validation added is not made again by who goes on.

    A checkpoint is only written after a whole optimizer step, never between the batches whose
    gradients one step accumulates, and never with weights or moments that are not finite.

    Args:
        folder: where ``last.ckpt`` goes.
        every_n_steps: optimizer steps between two checkpoints, at least 1.

    Raises:
        DivergedError: while training, when the loss or a weight is not finite.
        SaveError: while training, when a checkpoint cannot be written.
        Stopped: while training, after a signal was received and the checkpoint written.
    """

    def __init__(self, folder: str | Path, every_n_steps: int = 500) -> None:
        self.path = Path(folder) / LAST
        self.every_n_steps = every_n_steps
        self.last_saved_step: int | None = None
        self._interruption = Interruption()
        self._last_step = 0
        self._is_stopping = False
        self._is_before_validation = False  # what was saved last
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
        if self.is_due(step):
            self.save(trainer, pl_module)

    @property
    def is_stopping(self) -> bool:
        """Whether a signal was received, so that this step is to be the last."""
        return self._is_stopping

    def is_due(self, step: int) -> bool:
        """Whether to save behind this step."""
        return self._is_stopping or step % self.every_n_steps == 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a signal was received; if the run ends otherwise, that is told at its end."""
        self._is_before_validation = self.last_saved_step == trainer.global_step
        if self._is_stopping and self._is_before_validation:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished run."""
        if self.last_saved_step != trainer.global_step or self._is_before_validation:
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
        self.check(trainer, pl_module)
        self.write(trainer, lambda: trainer.save_checkpoint(self.path))
        self.last_saved_step, self._is_before_validation = trainer.global_step, False

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make sure that no loss, weight or moment has become infinite or no number.

        Raises:
            DivergedError: if one has.
        """
        self._check_losses(trainer)
        weights = list(pl_module.parameters())
        states = [state for optimizer in trainer.optimizers for state in optimizer.state.values()]
        # All but AdamW's count of steps.
        moments = [part for state in states for part in state.values() if part.dim() > 0]
        finite = torch.stack([part.isfinite().all() for part in [*weights, *moments]])
        finite = to_host(finite, "finite check")
        if not finite.all():
            what = "moment of the optimizer" if finite[: len(weights)].all() else "weight"
            self._fail(trainer, f"a {what} is not finite after step {trainer.global_step}")

    def write(self, trainer: Trainer, write: Callable[[], None]) -> None:
        """Write a file; if that fails, it fails on every process.

        Args:
            trainer: of the run.
            write: writes it on the first process, then waits for the others.

        Raises:
            SaveError: if ``write`` did.
        """
        failure: str | None = None
        try:
            write()
        except SaveError as error:
            failure = str(error)
            # Only the first process writes; the others are waiting for it.
            trainer.strategy.barrier()
        with owned("checkpoint"):
            failure = trainer.strategy.broadcast(failure)
        if failure is not None:
            how = f"go on with --ckpt_path {self.path}" if self.path.exists() else "start again"
            raise SaveError(_once(trainer, f"{failure}. Mend that, then {how}."))

    def _check_losses(self, trainer: Trainer) -> None:
        """Look at all losses since the last time at once: one by one each would be a copy."""
        if not self._losses:
            return
        steps, losses = zip(*self._losses, strict=True)
        self._losses = []
        finite = torch.stack(losses).isfinite()
        if trainer.world_size > 1:
            # Each process has losses of its own, and all of them have to stop.
            with owned("finite check"):
                finite = trainer.strategy.reduce(finite.int(), reduce_op="min")
        for step, is_finite in zip(steps, to_host(finite, "finite check"), strict=True):
            if not is_finite:
                self._fail(trainer, f"train/loss is not finite since step {step}")

    def _fail(self, trainer: Trainer, what: str) -> None:
        kept = f"{self.path} is as it was" if self.path.exists() else "nothing was saved"
        line = f"{what}; {kept}. Lower model.lr or trainer.gradient_clip_val."
        raise DivergedError(_once(trainer, line))


def _once(trainer: Trainer, line: str) -> str:
    """The line on the first process, nothing on the others, which end for the same reason."""
    return line if trainer.world_size == 1 or trainer.is_global_zero else ""


def on_host(part: Any) -> Any:
    """The same part of a checkpoint with its tensors on the host; containers are copied."""
    if isinstance(part, Tensor):
        return to_host(part, "checkpoint")
    if isinstance(part, dict):
        # A shallow copy keeps what a state_dict carries besides its items.
        copied = copy.copy(part)
        copied.update({key: on_host(value) for key, value in part.items()})
        return copied
    return [on_host(value) for value in part] if type(part) is list else part
