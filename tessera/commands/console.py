"""The standard streams of a command, and what it means for it if one cannot be written to."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class OutputLost(BaseException):
    """A stream that the command cannot do without cannot be written to.

    No Exception: like SIGPIPE it is nobody's business but the command's.

    Attributes:
        has_no_reader: whether the reader at the other end of a pipe has gone.
    """

    def __init__(self, name: str, fault: OSError) -> None:
        super().__init__(f"{name}: {fault.strerror}.")
        self.has_no_reader = fault.errno == errno.EPIPE


class _WaitingLine:
    """A line on a terminal that the next thing written to it takes the place of.

    Args:
        stream: standard error; if it is no terminal, nothing is ever written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._width = stream, 0

    def show(self, text: str) -> None:
        """Write the line, in place of one that is there; of no text, only remove that one."""
        self.remove()
        with contextlib.suppress(OSError, ValueError):
            if text and self._stream.isatty():
                self._write(f"{text} ...")
                self._width = len(text) + 4

    def remove(self) -> None:
        """Leave an empty line, if this one is there."""
        if self._width:
            with contextlib.suppress(OSError, ValueError):
                self._write(f"\r{' ' * self._width}\r")
            self._width = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Stream:
    """Standard output or standard error; letters that it has no code for become escapes.

    What cannot be written to standard output raises ``OutputLost``. What cannot be written to
    standard error is left out, because the rest of what a command does is worth more; only that
    nobody reads it any more counts there too.

    Args:
        stream: what is written to.
        waiting: makes room for it on the terminal.
        fault: why nothing can be written from the beginning, if so.

    Attributes:
        fault: why nothing is written any more, None as long as everything is.
        is_optional: whether the command goes on without it, whatever the fault.
        is_missed: whether the other stream is told if that happens.
    """

    def __init__(
        self,
        stream: TextIO,
        is_error: bool,
        waiting: _WaitingLine,
        fault: OSError | None = None,
    ) -> None:
        self.waiting = waiting
        self.fault, self.is_optional, self.is_missed = fault, False, False
        self._stream, self._is_error = stream, is_error

    def write(self, text: str) -> int:
        """Write; the number of letters, as Python's streams return it."""
        if self.fault is not None:
            self._lose(self.fault)
            return len(text)
        self.waiting.remove()
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            escaped = text.encode(error.encoding, "backslashreplace")
            self._stream.write(escaped.decode(error.encoding))
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write what waits in the stream's memory."""
        try:
            if self.fault is None:
                self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError | ValueError) -> None:
        is_news = self.fault is None
        # A stream that was closed raises a ValueError.
        self.fault = error if isinstance(error, OSError) else _closed()
        lost = OutputLost("standard error" if self._is_error else "standard output", self.fault)
        if not self.is_optional and (lost.has_no_reader or not self._is_error):
            raise lost from error
        if is_news and self.is_missed:
            other = sys.stdout if self._is_error else sys.stderr
            print(f"tessera: {lost} Nothing is shown there from now on.", file=other)

    def drop(self) -> None:
        """Forget what could not be written; at its end the process would try once more."""
        if self.fault is None:
            return
        with contextlib.suppress(OSError, ValueError):
            descriptor = self._stream.fileno()
            kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            self._stream.flush()
            os.dup2(kept, descriptor)
            os.close(kept)
            os.close(nowhere)


@contextlib.contextmanager
def opened_console() -> Iterator[None]:
    """Within the ``with`` statement the standard streams are these, all three of them open."""
    _fill_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull, "r+", encoding="utf-8") as nowhere:
        waiting = _WaitingLine(sys.stderr or nowhere)
        output, errors = (
            Stream(stream or nowhere, is_error, waiting, None if stream else _closed())
            for stream, is_error in ((sys.stdout, False), (sys.stderr, True))
        )
        sys.stdin, sys.stdout, sys.stderr = sys.stdin or nowhere, output, errors
        try:
            yield
        finally:
            waiting.remove()
            go_on_without_console(silently=True)  # whoever still holds one of them
            sys.stdin, sys.stdout, sys.stderr = before
            for stream in (output, errors):
                stream.flush()
                stream.drop()


def waiting_for(what: str) -> None:
    """Say on a terminal what is being waited for, until anything else is written to it.

    Args:
        what: empty if nothing is.
    """
    if isinstance(sys.stderr, Stream):
        sys.stderr.waiting.show(what)


def go_on_without_console(silently: bool = False) -> None:
    """From now on the command goes on whatever happens to its streams, and says so."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Stream):
            stream.is_optional, stream.is_missed = True, not silently


def _closed() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


def _fill_descriptors() -> None:
    """Open 0, 1 and 2 where they are closed: what a library says would go into the next file."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
