"""Where a run's checkpoints and logs are: a folder of its own for every run, never overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tessera.training.checkpointing import LAST, CheckpointError

_CHECKPOINTS = Path("checkpoints")
_LOGS = Path("lightning_logs")
_LONGEST = 255  # bytes of a folder's name
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class FolderError(ValueError):
    """A folder that a run cannot write to, for another reason than a fault of the machine."""


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        raise FolderError(
            f"{error.filename}: {error.strerror}; a run needs a folder that it can write to."
        ) from error


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``checkpoints/NAME/version_N`` and ``lightning_logs/NAME/version_N`` in the working folder.

    Args:
        name: of the run: letters, digits, dots, dashes, underscores.
        version: 0 for the first run of that name.

    Raises:
        ValueError: for another name, or one that is too long.
    """

    name: str
    version: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"run_name must be letters, digits, . - and _, got {self.name!r}.")
        if (length := len(os.fsencode(self.name))) > _LONGEST:
            raise ValueError(f"run_name must be at most {_LONGEST} bytes long, got {length}.")

    @property
    def checkpoints(self) -> Path:
        """The folder of ``last.ckpt``."""
        return _CHECKPOINTS / self.name / f"version_{self.version}"

    @property
    def logs(self) -> Path:
        """The folder of the TensorBoard events and of ``config.yaml``."""
        return _LOGS / self.name / f"version_{self.version}"


@_refusing()
def new_run(name: str) -> RunFolder:
    """The folder of a new run, made so that a run started at the same time gets another one.

    Raises:
        FolderError: if it cannot be made.
    """
    version = 0
    while True:
        run = RunFolder(name, version)
        if not run.logs.exists():
            try:
                run.checkpoints.mkdir(parents=True)
                return run
            except FileExistsError:
                if not run.checkpoints.parent.is_dir():  # a link to nowhere
                    raise
        version += 1


def discard(run: RunFolder) -> None:
    """Remove the folders of a run that has not begun; what holds anything stays."""
    for folder in (run.checkpoints, run.checkpoints.parent):
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone
            return


@_refusing()
def open_folders(run: RunFolder, with_logs: bool) -> None:
    """Make what is missing of a run's folders, and see that they can be written to.

    Raises:
        FolderError: naming the one that cannot.
    """
    for folder in (run.checkpoints, run.logs) if with_logs else (run.checkpoints,):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def latest_run(name: str) -> RunFolder:
    """The folder of that name's latest run, version 0 if there is none."""
    versions = [
        int(match[1])
        for path in (_CHECKPOINTS / RunFolder(name, 0).name).glob("version_*")
        if (match := re.fullmatch(r"version_(\d+)", path.name))
    ]
    return RunFolder(name, max(versions, default=0))


def run_of(checkpoint: Path) -> RunFolder | None:
    """The run that a checkpoint file belongs to, None if it lies elsewhere."""
    parts = checkpoint.resolve().parts[-4:]
    match = re.fullmatch(r"version_(\d+)", parts[2]) if len(parts) == 4 else None
    if match is None:
        return None
    run = RunFolder(parts[1], int(match[1])) if re.fullmatch(r"\w[\w.-]*", parts[1]) else None
    if run is None or (run.checkpoints / checkpoint.name).resolve() != checkpoint.resolve():
        return None
    return run


def find_checkpoint(ckpt_path: str, run_name: str) -> Path:
    """The file meant by ``--ckpt_path``: a path, or ``last`` for the newest of that name's runs.

    Raises:
        CheckpointError: if there is none.
    """
    if ckpt_path != "last":
        return Path(ckpt_path)
    try:
        folder = _CHECKPOINTS / RunFolder(run_name, 0).name
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    found = sorted(folder.glob(f"version_*/{LAST}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise CheckpointError(
            f"ckpt_path is last, but there is no {folder}/version_*/{LAST} to go on from; "
            "leave ckpt_path out for a new run, or give run_name."
        )
    return found[-1]
