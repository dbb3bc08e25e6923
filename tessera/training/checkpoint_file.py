"""The file of a checkpoint: torch's archive, and behind it a seal, the digest of its bytes.

What ``tessera export`` wrote is read here too: which kind a file is, is seen from its content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tessera.accelerator import is_out_of_memory
from tessera.training.checkpoint_parts import ContentError
from tessera.training.earlier import upgraded
from tessera.training.exported_file import described, is_exported, read_exported

# A line of text where the readers of zip archives, torch among them, do not look.
_BEFORE_DIGEST = b"\nTessera checkpoint 1; SHA-256 of everything before this line: "
_SEAL_LENGTH = len(_BEFORE_DIGEST) + 64 + 1

_ARCHIVE_END, _ARCHIVE_END_LENGTH = b"PK\x05\x06", 22
_BLOCK = 2**20  # bytes read at once
_BESIDE = re.compile(r"\..+\.(ckpt|safetensors)\.\d+")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and says why."""


class SaveError(OSError):
    """A checkpoint that could not be written; the message says why and what is there instead."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint file's content on the CPU, after every byte was compared with the digest.

    What the parts of it are is not looked at here, see ``checkpoint_content``; those that had other
    names in an earlier version have today's.

    Raises:
        CheckpointError: if the file is missing, torn, damaged or no checkpoint of this program.
        MemoryError: if there is no memory for it.
    """
    path = Path(path)
    with _reading(path) as file:
        if is_exported(file):
            return upgraded(read_exported(file))
        _check_bytes(path, file)
        file.seek(0)
        checkpoint = _load(path, file)
    if not isinstance(checkpoint, dict) or "hyper_parameters" not in checkpoint:
        raise CheckpointError(f"{path} is no checkpoint of Tessera.")
    return upgraded(checkpoint)


def describe_exported(path: str | Path) -> dict[str, Any] | None:
    """What ``read_checkpoint`` will give of an exported model, with zeros that take no memory.

    Returns:
        None if the file is of another kind.

    Raises:
        CheckpointError: if the file is missing, or its header cannot be used.
    """
    with _reading(Path(path)) as file:
        return upgraded(described(file)) if is_exported(file) else None


def write_checkpoint(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint, see ``write_whole``.

    Raises:
        SaveError: if the disk or its permissions do not allow it.
    """

    def save(beside: Path) -> None:
        with _SealedFile(beside) as file:
            file.save(content)

    write_whole(Path(path), save)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, flush to the disk and rename.

    Whenever the machine stops, the target is the old file or the new one, whole.

    Args:
        path: the target.
        write: writes the file that it is given, and flushes it to the disk.

    Raises:
        SaveError: if the disk or its permissions do not allow it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")  # see half_written
    is_renamed = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(beside)
            os.replace(beside, path)
            is_renamed = True
        finally:
            beside.unlink(missing_ok=True)
        _flush_folder(path.parent)
    except OSError as error:
        if is_renamed:
            what = f"{path} was written, but may not outlive a power cut ({_reason(error)})"
        else:
            kept = "the one before it is untouched" if path.exists() else "there is none before it"
            what = f"{path} cannot be written ({_reason(error)}); {kept}"
        raise SaveError(what) from error


def write_flushed(file: Path, content: bytes) -> None:
    """Write a new file, and flush it to the disk.

    Raises:
        OSError: if it cannot be written.
    """
    with open(file, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def half_written(folder: Path) -> list[Path]:
    """The files in a folder that were being written, by now or by a process that was killed."""
    return [file for file in folder.glob(".*") if _BESIDE.fullmatch(file.name)]


class _SealedFile(io.BufferedWriter):
    """A new file that takes the digest of what torch writes, from the first byte to the last."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._digest = hashlib.sha256()
        self._failure: OSError | None = None

    def save(self, content: dict[str, Any]) -> None:
        """Write a checkpoint and its seal, and flush them to the disk.

        Raises:
            OSError: if they cannot be written.
        """
        try:
            torch.save(content, self)
        except RuntimeError as error:
            # Torch's writer closes its archive even then, and hides what had happened.
            if self._failure is None:
                raise
            raise self._failure from error
        super().write(_seal(self._digest))
        self.flush()
        os.fsync(self.fileno())

    def write(self, data: Any, /) -> int:
        """Write and count in."""
        self._digest.update(data)
        try:
            return super().write(data)
        except OSError as error:
            self._failure = error
            raise


def _seal(digest: hashlib._Hash) -> bytes:
    return _BEFORE_DIGEST + digest.hexdigest().encode() + b"\n"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The open file; what cannot be read of it is said with its name."""
    try:
        with _open(path) as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({_reason(error)}).") from error
    except ContentError as error:
        raise CheckpointError(f"{path} cannot be used: {error}.") from error


def _open(path: Path) -> BinaryIO:
    try:
        # Asked first: to open a pipe would wait for somebody who writes into it.
        if stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint: there is no such file.") from error
    kind = "a folder" if path.is_dir() else "no regular file"
    raise CheckpointError(f"{path} is no checkpoint: it is {kind}.")


def _check_bytes(path: Path, file: BinaryIO) -> None:
    """Raise CheckpointError unless the file is, byte for byte, the one that was written."""
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, size - _SEAL_LENGTH))
    end = file.read()
    # A seal with a damaged beginning does not pass for an archive's end: it has hex digits there.
    if end.startswith(_BEFORE_DIGEST):
        file.seek(0)
        digest = hashlib.sha256()
        while begin > 0 and (block := file.read(min(_BLOCK, begin))):
            digest.update(block)
            begin -= len(block)
        if end != _seal(digest):
            raise CheckpointError(f"{path} is damaged: it is not as it was written.")
    elif end[-_ARCHIVE_END_LENGTH:].startswith(_ARCHIVE_END):
        _check_unsealed(path, file)
    else:
        raise CheckpointError(f"{path} is torn or no checkpoint.")


def _check_unsealed(path: Path, file: BinaryIO) -> None:
    """The same for a file from before there were seals, as far as it can be known.

    The archive has a checksum of each part, which torch does not look at, and a directory without
    one, of which torch uses more than the checksums cover.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if not all(_is_part_of_torch(part) for part in archive.infolist()):
                raise CheckpointError(f"{path} is damaged or no checkpoint of Tessera.")
            damaged = archive.testzip()
    except CheckpointError:
        raise
    except Exception as error:  # what is damaged decides what is raised
        raise CheckpointError(f"{path} is torn or no checkpoint.") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (in its part {damaged}).")


def _is_part_of_torch(part: zipfile.ZipInfo) -> bool:
    """Whether a directory's entry is as torch writes it: not compressed, a file, without marks."""
    return (
        part.compress_type == zipfile.ZIP_STORED
        and part.compress_size == part.file_size
        and part.external_attr == 0
    )


def _load(path: Path, file: BinaryIO) -> Any:
    """What torch finds in the file; primitives and tensors only, nothing that would be run."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what is in the file decides what is raised
        if is_out_of_memory(error):
            raise MemoryError(f"out of memory while reading {path}.") from error
        raise CheckpointError(f"{path} is no checkpoint of Tessera.") from error


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the file system can be told to."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
