"""What ``tessera fit`` says when it is done: where everything is, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from tessera.commands.fit.durations import duration_text
from tessera.training.checkpointing import TrainingCheckpoint
from tessera.training.run_folder import RunFolder
from tessera.training.tensorboard import GroupedLogger
from tessera.training.version_export import VERSIONS


def closing_lines(trainer: Trainer, run: RunFolder | None, argv: Sequence[str]) -> list[str]:
    """A line for each thing that is there, and the command that trains as long again.

    Args:
        trainer: done with training.
        run: where it wrote; None if nothing was kept.
        argv: the command and its options, as they were given.
    """
    if run is None:
        return [f"steps made: {trainer.global_step}; nothing is kept"]
    checkpoints = [x for x in trainer.callbacks if isinstance(x, TrainingCheckpoint)]  # type: ignore[attr-defined]
    saved = [x.path for x in checkpoints if x.last_saved_step is not None]
    lines = [f"checkpoint: {path}" for path in saved]
    versions = [path.with_name(VERSIONS) for path in saved]
    lines += [f"versions:   {each}" for each in versions if any(each.parent.glob(VERSIONS))]
    if any(isinstance(logger, GroupedLogger) and not logger.is_lost for logger in trainer.loggers):
        lines.append(f"curves:     tensorboard --logdir {run.logs.parent.parent}")
    lines += [f"resume:     {resume_command(argv, path, *_longer(trainer))}" for path in saved]
    return lines or [f"steps made: {trainer.global_step}; there is neither checkpoint nor curve"]


def stopped_where(trainer: Trainer, argv: Sequence[str], ckpt_path: str | None) -> str:
    """Where a signal stopped a training, and how to go on if something was saved.

    Args:
        trainer: stopped.
        argv: the command and its options, as they were given.
        ckpt_path: what it had gone on from, None for a new run.
    """
    step = trainer.global_step
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TrainingCheckpoint):
            if callback.last_saved_step == step:
                return f"at step {step}; resume: {resume_command(argv, callback.path)}"
            if ckpt_path is not None and callback.last_saved_step is None:
                resume = resume_command(argv, Path(ckpt_path))
                return f"before the first step; resume: {resume}"
    return f"at step {step}; nothing was saved." if step else "before the first step."


def resume_command(argv: Sequence[str], checkpoint: Path, *option: str) -> str:
    """The command line that goes on from a checkpoint.

    Args:
        argv: the command and its options, as they were given.
        checkpoint: where to go on from.
        option: a setting and its new value, or nothing.
    """
    given = _without(_without(argv, "--ckpt_path"), "--init_from")
    if option:
        given = [*_without(given, option[0]), *option]
    return f"tessera {shlex.join([*given, '--ckpt_path', str(checkpoint)])}"


def _longer(trainer: Trainer) -> tuple[str, ...]:
    """The limit that ended the training, and twice its value; nothing if none did."""
    if 0 < trainer.max_steps <= trainer.global_step:
        return "--trainer.max_steps", str(2 * trainer.max_steps)
    if 0 < (trainer.max_epochs or 0) <= trainer.current_epoch:
        return "--trainer.max_epochs", str(2 * trainer.max_epochs)  # type: ignore[operator]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        left_s = callback.time_remaining() if isinstance(callback, Timer) else None
        if left_s is not None and left_s <= 0:
            limit_s = round(callback.time_elapsed() + left_s)
            return "--trainer.max_time", duration_text(2 * max(1, limit_s))
    return ()


def _without(argv: Sequence[str], option: str) -> list[str]:
    """The arguments without an option, or the parts of one, and their values."""
    kept: list[str] = []
    skip = False
    for argument in argv:
        name, equals, _ = argument.partition("=")
        is_option = name == option or name.startswith(f"{option}.")
        if not skip and not is_option:
            kept.append(argument)
        skip = is_option and not equals
    return kept
