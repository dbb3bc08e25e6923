"""The run that all rungs of a ladder branch off: its checkpoints where their cool-downs begin."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from tessera.commands.compare.games_of_run import games_of
from tessera.commands.compare.pace import Pace
from tessera.commands.compare.run_checkpoint import RunCheckpoint
from tessera.commands.compare.training import Report, new_trainer
from tessera.training.checkpoint_file import CheckpointError, read_checkpoint
from tessera.training.checkpointing import LAST
from tessera.training.module import TesseraModule
from tessera.training.run_lock import RunLock


class Trunk:
    """The checkpoints of one trunk.

    Args:
        folder: of the trunk.
        settings: of the ladder's trunk.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self._settings = folder, settings

    def at(self, step: int) -> Path:
        """The checkpoint at a step, which need not be there."""
        return self.folder / f"step_{step}.ckpt"

    def grow(self, branches: Collection[int], on_progress: Report) -> None:
        """Train until there is a checkpoint at each of these steps.

        It goes on from the last one before the first that is missing: with the same bits as if it
        had never been interrupted.

        Args:
            branches: steps.
            on_progress: told of ``step`` and ``steps``.

        Raises:
            DivergedError: if a loss or a weight is not finite.
            Stopped: after a signal, with ``last.ckpt`` written.
            CheckpointError: if another process writes to the folder.
        """
        missing = [step for step in branches if not self.at(step).exists()]
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = RunLock()
        lock.take(self.folder)
        try:
            start = self._start(min(missing))
            if start is not None and start[0] == min(missing):  # no step is left to be made
                put(start[1], self.at(start[0]))
                missing.remove(start[0])
            if missing:
                self._train(missing, None if start is None else start[1], on_progress)
        finally:
            lock.release()

    def prune(self, wanted: Collection[int]) -> None:
        """Remove the checkpoints at other steps than these; the last one stays for more tokens."""
        for step, path in self._steps().items():
            if step not in wanted:
                path.unlink(missing_ok=True)

    def _start(self, before: int) -> tuple[int, Path] | None:
        """The newest whole checkpoint at this step or before it, and its step."""
        places = list(self._steps().items())
        with contextlib.suppress(CheckpointError):
            last = self.folder / LAST
            places.append((int(read_checkpoint(last)["global_step"]), last))
        for step, path in sorted(places, reverse=True):
            if step <= before:
                with contextlib.suppress(CheckpointError):
                    read_checkpoint(path)
                    return step, path
        return None

    def _steps(self) -> dict[int, Path]:
        found = {}
        for path in self.folder.glob("step_*.ckpt"):
            if match := re.fullmatch(r"step_(\d+)\.ckpt", path.name):
                found[int(match[1])] = path
        return found

    def _train(self, branches: Collection[int], start: Path | None, report: Report) -> None:
        settings, steps = dict(self._settings), max(branches)
        settings["trainer"] = {**settings["trainer"], "max_steps": steps}
        seed_everything(settings["seed"], workers=True)
        module = TesseraModule(**settings["model"])
        pace = Pace(steps, module.pad_token)
        checkpoint = _BranchCheckpoint(self.folder, branches, pace)
        trainer = new_trainer(settings, [pace, _Progress(steps, report), checkpoint])
        ckpt_path = None if start is None else str(start)
        trainer.fit(module, datamodule=games_of(settings), ckpt_path=ckpt_path)


def put(checkpoint: Path, there: Path) -> None:
    """Have a checkpoint lie in a second place too, whole or not at all; whoever writes replaces."""
    beside = there.with_name(f".{there.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        os.link(checkpoint, beside)
    except OSError:  # of a file system without links
        shutil.copyfile(checkpoint, beside)
    os.replace(beside, there)


class _BranchCheckpoint(RunCheckpoint):
    """Keeps ``last.ckpt`` as every run does, and one at each step where a rung leaves."""

    def __init__(self, folder: Path, branches: Collection[int], pace: Pace) -> None:
        super().__init__(folder, (), pace, keeps_last=True)
        self._branches = frozenset(branches)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate nothing: only rungs are measured."""
        super().on_train_start(trainer, pl_module)
        trainer.val_check_batch = math.inf

    def is_due(self, step: int) -> bool:
        """Whether to save behind this step."""
        return step in self._branches or super().is_due(step)

    def save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``last.ckpt``, and keep it if a rung leaves here."""
        super().save(trainer, pl_module)
        if trainer.global_step in self._branches:
            put(self.path, self.path.with_name(f"step_{trainer.global_step}.ckpt"))


class _Progress(Callback):
    def __init__(self, steps: int, report: Report) -> None:
        self._steps, self._report = steps, report

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Say how far it has come, without asking the GPU."""
        told = {"step": trainer.global_step, "steps": self._steps, "excess_nats": None}
        self._report(told)
