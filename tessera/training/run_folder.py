"""Where a run's checkpoints and logs are: a folder of its own for every run, never overwritten."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tessera.training.checkpoint_file import CheckpointError
from tessera.training.checkpointing import LAST

_CHECKPOINTS = Path("checkpoints")
_LOGS = Path("lightning_logs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``checkpoints/NAME/version_N`` and ``lightning_logs/NAME/version_N`` in the working folder.

    Args:
        name: of the run: letters, digits, dots, dashes, underscores.
        version: 0 for the first run of that name.

    Raises:
        ValueError: for another name.
    """

    name: str
    version: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"run_name must be letters, digits, . - and _, got {self.name!r}.")

    @property
    def checkpoints(self) -> Path:
        """The folder of ``last.ckpt``."""
        return _CHECKPOINTS / self.name / f"version_{self.version}"

    @property
    def logs(self) -> Path:
        """The folder of the TensorBoard events and of ``config.yaml``."""
        return _LOGS / self.name / f"version_{self.version}"


def new_run(name: str) -> RunFolder:
    """The folder of a new run, made so that a run started at the same time gets another one."""
    version = 0
    while True:
        run = RunFolder(name, version)
        if not run.logs.exists():
            try:
                run.checkpoints.mkdir(parents=True)
                return run
            except FileExistsError:
                pass
        version += 1


def discard(run: RunFolder) -> None:
    """Remove the folders of a run that has not begun; what holds anything stays."""
    for folder in (run.checkpoints, run.checkpoints.parent):
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone
            return


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
    folder = _CHECKPOINTS / RunFolder(run_name, 0).name
    found = sorted(folder.glob(f"version_*/{LAST}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise CheckpointError(
            f"ckpt_path is last, but there is no {folder}/version_*/{LAST} to go on from; "
            "leave ckpt_path out for a new run, or give run_name."
        )
    return found[-1]
