"""One process at a time writes into a run's folder, and what a killed one left there is removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from pathlib import Path

from tessera.training.checkpoint_file import CheckpointError, SaveError, half_written

_NAME = ".writer"
_PATIENCE_S = 1.0  # for a process that is removing what was left here
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class RunLock:
    """The right to write into a run's folder.

    It is a lock of the kernel's on a hidden file in the folder, which says ``HOST PROCESS``. The
    kernel takes it back when the process ends, in whatever way, so nobody waits for the dead.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1

    def take(self, folder: Path) -> None:
        """Take the right, and remove what dead writers left here and in the other versions.

        Where a file system has no locks, a line says so and the run has no protection.

        Args:
            folder: of a run, beside those of its other versions.

        Raises:
            CheckpointError: if another process has the right, or the folder is read-only.
            SaveError: if the disk takes no file.
        """
        path = folder / _NAME
        try:
            descriptor = _wait_for(path)
            if descriptor is None:
                raise CheckpointError(
                    f"{folder} is being written to by {_writer(path)}; wait until it ends, branch "
                    "off from its file with another run_name, or leave ckpt_path out for a new run."
                )
            self._path, self._descriptor = path, descriptor
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode())
        except OSError as error:
            self.release()
            if error.errno not in _NO_LOCKS:
                is_forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
                kind = CheckpointError if is_forbidden else SaveError
                raise kind(f"{folder} cannot be written to ({error.strerror}).") from error
            _remove([path])
            print(
                f"tessera: {folder}: this file system has no locks ({error.strerror}), so nothing "
                "keeps a second process from writing to the run.",
                file=sys.stderr,
            )
            return
        _remove(half_written(folder))
        for other in folder.parent.glob("version_*"):
            if other != folder:
                _clean(other)

    def release(self) -> None:
        """Give the right back; does nothing without it."""
        if self._path is not None:
            # While it is locked: whoever comes next makes a new file.
            _remove([self._path])
            os.close(self._descriptor)
            self._path = None


def _wait_for(path: Path) -> int | None:
    """The descriptor of a locked file; None if another process keeps it."""
    until = time.monotonic() + _PATIENCE_S
    while (descriptor := _lock(path)) is None and time.monotonic() < until:
        time.sleep(0.05)
    return descriptor


def _lock(path: Path) -> int | None:
    """The descriptor of a locked file, which is made if there is none; None if it is locked.

    Raises:
        OSError: if there can be no such file, or no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it before may have removed it meanwhile.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _writer(path: Path) -> str:
    """Who has the lock, as far as the file says it."""
    with contextlib.suppress(OSError):
        host, _, process = path.read_text(errors="replace").strip().rpartition(" ")
        if host:
            return f"process {process} on {host}"
    return "another process"


def _clean(folder: Path) -> None:
    """Remove what a dead writer left in another run's folder; a living one has the lock."""
    path = folder / _NAME
    if not half_written(folder) and not path.exists():
        return
    with contextlib.suppress(OSError):  # another user's
        descriptor = _lock(path)
        if descriptor is not None:
            _remove([*half_written(folder), path])
            os.close(descriptor)


def _remove(paths: list[Path]) -> None:
    """Remove files, as far as they may be; what stays takes room and does no harm."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
