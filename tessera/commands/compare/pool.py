"""The worker processes, each on a device, and what they say."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tessera.commands.one_line import one_line

# It leaves without taking torch apart, which takes seconds.
_PROGRAM = (
    "import os; from tessera.commands.light_metrics import load_metrics_lightly; "
    "load_metrics_lightly(); from tessera.commands.compare.worker import main; os._exit(main())"
)
_STOP_S = 120.0  # to finish a step or a validation, and to write a checkpoint
_LAST_WORDS = 2000  # bytes of a log
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Message(NamedTuple):
    """What a worker has said.

    Attributes:
        worker: which one.
        kind: see ``worker``; ended when it has, which is its last.
        content: the rest of the line.
    """

    worker: Worker
    kind: str
    content: dict[str, Any]


class Worker:
    """A process that trains one run at a time.

    Args:
        place: the variables of its environment that give it a device or threads.
        log: where its standard error goes.
        messages: where what it says is put.
    """

    def __init__(
        self, place: Mapping[str, str], log: Path, messages: queue.SimpleQueue[Message]
    ) -> None:
        self._place, self._log, self._messages = place, log, messages
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Begin; again, once it has ended."""
        self._hang_up()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with open(self._log, "ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": paths, **self._place},
                encoding="utf-8",
                # Ctrl-C is for the command, which tells its workers.
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def give(self, job: Mapping[str, Any]) -> None:
        """Have it do something; what it says of it follows."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is said elsewhere
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        """Have it save what it is at, and end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Wait until it has ended; one without a job does so when it has nobody to listen to."""
        self._hang_up()
        assert self._process is not None
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()

    def _hang_up(self) -> None:
        """Let it hear nothing more."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    said = json.loads(line)
                    self._messages.put(Message(self, said.pop("kind"), said))
        code = process.wait()
        self._messages.put(Message(self, "ended", {"reason": self._last_words(code)}))

    def _last_words(self, code: int) -> str:
        """Why it has ended, as far as that is known."""
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"its process was ended by {signal.Signals(-code).name}"
        with contextlib.suppress(OSError):
            lines = self._log.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").splitlines()
            if lines:
                return one_line(f"its process ended with code {code}: {lines[-1]}")
        return f"its process ended with code {code}"


def places(num_gpus: int, per_gpu: int, processes: int, threads: int) -> list[dict[str, str]]:
    """The variables of every worker's environment.

    Args:
        num_gpus: that there are; 0 for a CPU.
        per_gpu: workers on each of them.
        processes: workers on a CPU.
        threads: of each worker on a CPU.
    """
    if not num_gpus:
        return [{"OMP_NUM_THREADS": str(threads), _VISIBLE: ""} for _ in range(processes)]
    named = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    names = named[:num_gpus] or [str(nth) for nth in range(num_gpus)]
    return [{_VISIBLE: name} for _ in range(per_gpu) for name in names]


@contextlib.contextmanager
def workers(
    where: list[dict[str, str]], folder: Path
) -> Iterator[tuple[list[Worker], queue.SimpleQueue[Message]]]:
    """Workers, which have ended when the ``with`` statement has; after an error they are stopped.

    Args:
        where: see ``places``.
        folder: where each writes what went wrong, in a file of its own; empty ones are removed.
    """
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    started: list[Worker] = []
    logs = [folder / f"worker_{nth}.log" for nth in range(len(where))]
    try:
        for place, log in zip(where, logs, strict=True):
            log.unlink(missing_ok=True)
            started.append(Worker(place, log, messages))
        yield started, messages
    except BaseException:
        for worker in started:
            worker.stop()
        raise
    finally:
        for worker in started:
            worker.close()
        for log in logs:
            with contextlib.suppress(OSError):
                if log.stat().st_size == 0:
                    log.unlink()
