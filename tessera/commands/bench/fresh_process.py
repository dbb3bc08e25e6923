"""A process for one measurement: nothing is left there by those before it.

What is said to it and what it says are lines of JSON objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, TypeVar

import tessera
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.one_line import one_line

Own = TypeVar("Own", bound="FreshProcess")


def own_environment() -> dict[str, str]:
    """The variables of a process that runs the package that runs here, wherever that is."""
    places = [str(Path(tessera.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


class TookTooLongError(NotMeasuredError):
    """A process that has not answered in time."""


class FreshProcess:
    """A Python process of its own; a context manager, which ends it.

    Args:
        module: that it runs, as ``python -m`` does; it reads lines from its standard input.
    """

    def __init__(self, module: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed when the process has ended
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=own_environment(),
            text=True,
            # Ctrl-C is for the command, which ends its processes.
            start_new_session=True,
        )
        self._heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def tell(self, what: dict[str, Any]) -> None:
        """Say something to it; nothing happens if it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()

    def hear(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next thing that it says, without a ``missing`` in it.

        Args:
            timeout_s: seconds that it may take.

        Raises:
            NotMeasuredError: with what it says is missing, or what it last wrote if it ended.
            TookTooLongError: if it does not say it in time.
        """
        try:
            found = self._heard.get(timeout=None if timeout_s is None else max(timeout_s, 0))
        except queue.Empty:
            raise TookTooLongError from None
        if found is None:
            raise NotMeasuredError(f"ended: {self._last_words()}")
        if "missing" in found:
            raise NotMeasuredError(found["missing"])
        return found

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # a library's own words
                    if isinstance(said := json.loads(line), dict):
                        self._heard.put(said)
        self._heard.put(None)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1]) if lines else f"exit code {code}"

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """End it, if it has not; what it has taken is free again."""
        if self._process.poll() is None:
            # With those that it has started, to compile kernels.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join()
        with contextlib.suppress(OSError):  # what could not be said any more
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._errors.close()
