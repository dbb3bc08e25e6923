"""TensorBoard's event file without TensorBoard's thread."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

_numbers = itertools.count()  # files of one process in one second


class EventFile:
    """Writes each event as it comes, in place of TensorBoard's ``EventFileWriter``.

    That one writes in a thread. If it cannot, the thread ends with a traceback, and whoever logs
    next gets its error, perhaps in the middle of a step.

    Args:
        folder: where the file is made, and the folder if need be.
        fail: called with the error if the file cannot be written; nothing is written after that.
    """

    def __init__(self, folder: str, fail: Callable[[OSError], None]) -> None:
        self._folder, self._fail = Path(folder), fail
        name = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._file: Any = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: an event is on its way to the disk before the next one is made.
            path = self._folder / f"events.out.tfevents.{name}"
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115
        except OSError as error:
            fail(error)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add_event(self, event: Event) -> None:
        """Write an event, whole or not at all."""
        if self._file is None:
            return
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        rest, end = record.getbuffer(), self._file.tell()
        try:
            # An open file can be written to when nobody can find it any more.
            if not self._folder.is_dir():
                raise FileNotFoundError(f"{self._folder} is gone")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            self.close()
            self._fail(error)

    def get_logdir(self) -> str:
        """The folder."""
        return str(self._folder)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """Write nothing any more."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a disk in the network may say it only now
                file.close()

    def __del__(self) -> None:
        self.close()


class EventWriter(SummaryWriter):
    """torch's writer into such a file; arguments as there."""

    file_writer: Any
    all_writers: Any

    def __init__(self, folder: str, fail: Callable[[OSError], None]) -> None:
        self._fail = fail
        super().__init__(folder)

    def add_summary(self, summary: Summary, step: int | None) -> None:
        """Write a summary as one event."""
        self._get_file_writer().add_summary(summary, step)

    def abandon(self) -> None:
        """Write nothing any more, whatever is still handed over."""
        if self.file_writer is not None:
            self.file_writer.event_writer.close()

    def _get_file_writer(self) -> Any:
        if self.file_writer is None:
            self.file_writer = _FileWriter(self.log_dir, self._fail)
            self.all_writers = {self.log_dir: self.file_writer}
        return self.file_writer


class _FileWriter(FileWriter):
    """Makes events of summaries and other things, which torch's class is good for."""

    def __init__(self, folder: str, fail: Callable[[OSError], None]) -> None:
        self.event_writer = EventFile(folder, fail)
