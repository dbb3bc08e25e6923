"""Where a run's checkpoints and logs are: a folder of its own for every run, never overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import tessera
from tessera.setting_errors import Problem, SettingError
from tessera.training.checkpoint_file import CheckpointError
from tessera.training.checkpointing import LAST

_GIVEN = Path(tessera.__file__).parent / "weights"
_CHECKPOINTS, _LOGS = "checkpoints", "lightning_logs"
_VERSION = re.compile(r"version_(\d+)")
_NAME = re.compile(r"\w[\w.-]*")
_MOST_NAMED = 5  # runs in a message
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
    """``checkpoints/NAME/version_N`` and ``lightning_logs/NAME/version_N``.

    Args:
        name: of the run: letters, digits, dots, dashes, underscores.
        version: 0 for the first run of that name.
        root: the folder that holds both; if not given the working folder.
        made: the folders that were not there before it, each before the one that holds it.

    Raises:
        SettingError: for another name, or one that is too long.
    """

    name: str
    version: int
    root: Path = Path()
    made: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingError(
                Problem("run_name", repr(self.name), "be letters, digits, . - and _")
            )
        if (length := len(os.fsencode(self.name))) > _LONGEST:
            raise SettingError(Problem("run_name", length, f"be at most {_LONGEST} bytes long"))

    @property
    def checkpoints(self) -> Path:
        """The folder of ``last.ckpt``."""
        return self.root / _CHECKPOINTS / self.name / f"version_{self.version}"

    @property
    def logs(self) -> Path:
        """The folder of the TensorBoard events and of ``config.yaml``."""
        return self.root / _LOGS / self.name / f"version_{self.version}"


@_refusing()
def new_run(name: str, root: Path = Path()) -> RunFolder:
    """The folder of a new run, made so that a run started at the same time gets another one.

    Raises:
        FolderError: if it cannot be made.
    """
    version = 0
    while True:
        run = RunFolder(name, version, root)
        if not run.logs.exists():
            made = (*_missing(run.checkpoints), *_missing(run.logs))
            try:
                run.checkpoints.parent.mkdir(parents=True, exist_ok=True)
                run.checkpoints.mkdir()
                return replace(run, made=made)
            except FileExistsError:
                if not run.checkpoints.is_dir():  # a file, or a link to nowhere
                    raise
        version += 1


def _missing(folder: Path) -> tuple[Path, ...]:
    """The folder and those above it that are not there, the deepest first."""
    return tuple(path for path in (folder, *folder.parents) if not path.exists())


def discard(run: RunFolder) -> None:
    """Remove all that a new run has made, before it has begun; nothing of one that is resumed."""
    for folder in run.made:
        if folder in (run.checkpoints, run.logs):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # another run began in it, or it is gone
                folder.rmdir()


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


def latest_run(name: str, root: Path = Path()) -> RunFolder:
    """The folder of that name's latest run, version 0 if there is none."""
    versions = [
        int(match[1])
        for path in RunFolder(name, 0, root).checkpoints.parent.glob("version_*")
        if (match := _VERSION.fullmatch(path.name))
    ]
    return RunFolder(name, max(versions, default=0), root)


def run_of(checkpoint: Path, root: Path = Path()) -> RunFolder | None:
    """The run below ``root`` that a checkpoint file belongs to, None if it lies elsewhere."""
    *_, name, version, _ = ("", "", *checkpoint.resolve().parts)
    match = _VERSION.fullmatch(version)
    if match is None or not _NAME.fullmatch(name):
        return None
    run = RunFolder(name, int(match[1]), root)
    return run if (run.checkpoints / checkpoint.name).resolve() == checkpoint.resolve() else None


def given_names() -> list[str]:
    """The models that come with the program."""
    return sorted(file.stem for file in _GIVEN.glob("*.safetensors"))


def given_model(name: str | Path) -> Path:
    """The file of a model that comes with the program; the path itself unless it is only a name."""
    path = Path(name)
    is_name = str(name) in given_names() and not path.exists()
    return _GIVEN / f"{name}.safetensors" if is_name else path


def name_of_model(path: Path) -> str:
    """As it is shown: the path, or the name alone of a model that comes with the program."""
    return path.stem if path.parent == _GIVEN else str(path)


def find_checkpoint(
    ckpt_path: str, run_name: str, root: Path = Path(), option: str = "ckpt_path"
) -> Path:
    """The file meant by ``--ckpt_path``: a path, or ``last`` for the newest of that name's runs.

    Args:
        ckpt_path: what was typed.
        run_name: of the runs that ``last`` is the newest of.
        root: see ``RunFolder``.
        option: what it was typed for, for the message.

    Raises:
        SettingError: if the run's name is none, which a file does not ask for either.
        CheckpointError: if there is none.
    """
    folder = RunFolder(run_name, 0, root).checkpoints.parent
    if ckpt_path != "last":
        return given_model(ckpt_path)
    found = sorted(folder.glob(f"version_*/{LAST}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        runs = _newest_runs(folder.parent)
        which = f" ({', '.join(runs)})" if runs else ""
        raise CheckpointError(
            f"{option} is last, but there is no {folder}/version_*/{LAST}; "
            f"give run_name{which}, or the file; a new run of tessera fit needs no {option}."
        )
    return found[-1]


def _newest_runs(checkpoints: Path) -> list[str]:
    """The runs in whose folders there is a ``last``, the newest first; not too many."""
    files = checkpoints.glob(f"*/version_*/{LAST}")
    newest = sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return list(dict.fromkeys(file.parents[1].name for file in newest))[:_MOST_NAMED]
