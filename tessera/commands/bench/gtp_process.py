"""``tessera gtp`` in a process of its own, asked as a Go program asks it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from tessera.commands.bench.fresh_process import own_environment
from tessera.commands.bench.rivals import NotMeasuredError

_NEVER = 100_000  # hundredths of a second between two tellings of an analysis


class GtpProcess:
    """The engine, from its start to its end; a context manager.

    Args:
        options: of ``tessera gtp``.

    Attributes:
        start_s: from the start of the process to its first answer, in seconds.

    Raises:
        NotMeasuredError: saying what it said, if it ends before it answers.
    """

    def __init__(self, options: Sequence[str]) -> None:
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tessera", "gtp", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # a few lines at most
            env=own_environment(),
        )
        try:
            self.ask("protocol_version")
        except BaseException:
            self._end()
            raise
        self.start_s = time.perf_counter() - began

    def ask(self, command: str) -> str:
        """The answer to a command, to the empty line that ends it."""
        self._write(f"{command}\n")
        answer = b""
        while not answer.endswith(b"\n\n"):
            answer += self._line()
        return answer.decode()

    def analysis(self) -> str:
        """What ``lz-analyze`` tells first; it goes on until ``stop_analysis``."""
        self._write(f"lz-analyze {_NEVER}\n")
        return (self._line() + self._line()).decode()

    def stop_analysis(self) -> None:
        """End the analysis."""
        self._write("\n")
        self._line()

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._fault() from None

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._fault()
        return line

    def _fault(self) -> NotMeasuredError:
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        self._process.wait()
        reason = lines[-1] if lines else f"exit code {self._process.returncode}"
        return NotMeasuredError(f"tessera gtp ended: {reason}")

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()  # the end of its input ends it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> GtpProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
