"""Contexts of many positions, kept in a memory-mapped file or in a device's memory.

Shape suffixes: P positions, K contexts of each that are read, C numbers of a context.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tessera.transfers import to_host

_FILE, _MANIFEST = "contexts.f32", "contexts.json"
_SPARE = 64 * 2**20  # bytes of a disk that are left for checkpoints and curves


class ContextCache:
    """Contexts (P, K, C) float32, made piece by piece, in the order of their positions.

    On disk they are a file that a process which is stopped in the midst of it leaves as it is: the
    next one goes on behind the last whole piece if it makes the same contexts.

    Args:
        shape: P, K, C.
        key: what contexts depend on, in any text; those of another key are made anew.
        folder: where the file goes; None for the device's memory.
        device: where contexts are made and read.

    Attributes:
        num_bytes: of all contexts.
        pieces_done: how many pieces there are already.

    Raises:
        OSError: if the disk has no room for them.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        key: str,
        folder: Path | None,
        device: torch.device,
    ) -> None:
        self.shape, self.key, self.folder, self.device = shape, key, folder, device
        self.num_bytes = bytes_of(shape)
        self.pieces_done = 0
        if folder is None:
            self._contexts = torch.empty(shape, device=device)
            return
        if self._is_there(folder):
            self.pieces_done = json.loads((folder / _MANIFEST).read_text())["pieces"]
        else:
            discard(folder)
            check_room(folder, self.num_bytes)
            folder.mkdir(parents=True, exist_ok=True)
            _reserve(folder / _FILE, self.num_bytes)
        count = self.num_bytes // 4
        path = str(folder / _FILE)
        self._contexts = torch.from_file(path, True, count, dtype=torch.float32).view(shape)

    def make(
        self,
        sizes: list[int],
        piece: Callable[[int], Tensor],
        after_piece: Callable[[int, int], None],
    ) -> None:
        """Make the pieces that are not there.

        Args:
            sizes: positions of every piece; their sum is P.
            piece: of its number the contexts (size, K, C) of a piece, on any device.
            after_piece: told how many there are, and how many there will be.
        """
        first = sum(sizes[: self.pieces_done])
        for number in range(self.pieces_done, len(sizes)):
            own = self._contexts[first : first + sizes[number]]
            made = piece(number)
            own.copy_(made if self.folder is None else to_host(made, "contexts"))
            first += sizes[number]
            self.pieces_done = number + 1
            if self.folder is not None:
                self._write_manifest(self.folder)
            after_piece(self.pieces_done, len(sizes))

    def rows(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The contexts (T, C) of some positions, one tensor for each of the K, on the device.

        Args:
            rows: (T,) int64, where the contexts are: on the host, or in memory on the device.
        """
        found_TKC = self._contexts[rows]
        if found_TKC.device != self.device:
            found_TKC = found_TKC.pin_memory().to(self.device, non_blocking=True)
        return found_TKC.unbind(1)

    @property
    def place(self) -> torch.device:
        """Where the contexts are."""
        return self._contexts.device

    def _is_there(self, folder: Path) -> bool:
        """Whether a file holds contexts of this key, or the first of them."""
        try:
            told = json.loads((folder / _MANIFEST).read_text())
            is_whole = (folder / _FILE).stat().st_size == self.num_bytes
        except (OSError, ValueError):
            return False
        wanted = {"key": self.key, "shape": list(self.shape)}
        is_same = isinstance(told, dict) and wanted.items() <= told.items()
        return is_same and is_whole and isinstance(told.get("pieces"), int)

    def _write_manifest(self, folder: Path) -> None:
        told = {"key": self.key, "shape": list(self.shape), "pieces": self.pieces_done}
        beside = folder / f"{_MANIFEST}.new"
        beside.write_text(json.dumps(told))
        beside.replace(folder / _MANIFEST)


def _reserve(path: Path, num_bytes: int) -> None:
    """Make a file of so many bytes, all of which the disk has given.

    A mapped file that finds the disk full only when it is written to would end the process.
    """
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error


def bytes_of(shape: tuple[int, int, int]) -> int:
    """How many bytes the contexts (P, K, C) take: 4·P·K·C."""
    positions, read, size = shape
    return 4 * positions * read * size


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise OSError unless the disk of a folder, which need not exist, has room for a file.

    A file of ours that is there already counts as room.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    had = (folder / _FILE).stat().st_size if (folder / _FILE).exists() else 0
    free = shutil.disk_usage(there).free + had - _SPARE
    if num_bytes > free:
        told = f"contexts need {num_bytes:,} bytes and there is room for {max(0, free):,}"
        hint = "lower model.fixed_point.cached_games or give model.fixed_point.cache memory"
        raise OSError(errno.ENOSPC, f"{told}; {hint}", str(folder))


def discard(folder: Path) -> None:
    """Remove the contexts in a folder, and the folder if nothing else is in it."""
    for name in (_MANIFEST, f"{_MANIFEST}.new", _FILE):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
