"""A process that trains run after run: one line of JSON in for each, and lines out of how it goes.

In: ``{"settings", "folder", "counted", "has_device"}``, the arguments of ``run_one``, or
``{"settings", "measure"}``, the seconds of a ``measure``. Out: first ``{"kind": "ready"}``, then
for each run ``progress`` with ``step``, ``steps`` and ``excess_nats``, and at its end ``done``,
``measured`` with ``step_s``, ``interrupted``, or ``failed`` with ``reason``, ``is_final`` (whether
it would fail again) and ``is_ending`` (whether the worker ends with it). When nobody writes to it
any more, it stops as if by SIGTERM.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

from tessera.accelerator import is_out_of_memory
from tessera.commands.compare.training import measure, run_one
from tessera.commands.one_line import one_line
from tessera.commands.quiet import quieten
from tessera.data import NoRoomForGamesError
from tessera.signals import Stopped, StopSignals
from tessera.training.checkpointing import DivergedError

__all__ = ["main", "run_one"]

_PROGRESS_S = 0.25


class _Speaker:
    """Writes lines of JSON; progress not more often than a person can see."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, 0.0

    def say(self, kind: str, **more: Any) -> None:
        """Write a line at once."""
        self._stream.write(json.dumps({"kind": kind, **more}) + "\n")
        self._stream.flush()

    def progress(self, told: Mapping[str, Any]) -> None:
        """Write how far a run has come, unless that was just done."""
        now = time.monotonic()
        if now - self._last >= _PROGRESS_S:
            self._last = now
            self.say("progress", **told)


def main() -> int:
    """Serve until standard input ends.

    Returns:
        0; 128 and more after a signal.
    """
    quieten()
    # What a library prints must not come between the lines.
    speaker = _Speaker(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    jobs: queue.Queue[str | None] = queue.Queue()
    try:
        with StopSignals(ends_process=True):
            threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
            speaker.say("ready")
            while (line := jobs.get()) is not None:
                _serve(json.loads(line), speaker)
    except Stopped as stopped:
        return 128 + stopped.number
    except BrokenPipeError:  # nobody reads it any more
        return 128 + signal.SIGPIPE
    return 0


def _listen(jobs: queue.Queue[str | None]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    jobs.put(None)
    # A run that goes on although nobody waits for it is saved and left.
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(job: dict[str, Any], speaker: _Speaker) -> None:
    try:
        if "measure" in job:
            speaker.say("measured", step_s=measure(job["settings"], job["measure"]))
            return
        counted, has_device = job["counted"], job["has_device"]
        run_one(job["settings"], job["folder"], speaker.progress, counted, has_device)
    except Stopped:
        speaker.say("interrupted")
        raise
    except BrokenPipeError:
        raise
    except Exception as error:
        traceback.print_exc()
        is_final = isinstance(error, DivergedError)
        is_broken = "CUDA error" in str(error)  # nothing works on the device in this process now
        speaker.say("failed", reason=reason_of(error), is_final=is_final, is_ending=is_broken)
        if is_broken:
            raise SystemExit(1) from error
    else:
        speaker.say("done")


def reason_of(error: Exception) -> str:
    """Why a run has failed, in one line."""
    if isinstance(error, DivergedError):
        return one_line(str(error).partition(";")[0])
    if isinstance(error, NoRoomForGamesError):
        error = error.under("data")
    if is_out_of_memory(error):
        text = str(error)
        return one_line(text) if text.startswith("out of memory") else "out of memory"
    text = " ".join(str(error).split())
    is_told = isinstance(error, ValueError)
    return one_line(text if is_told and text else f"{type(error).__name__}: {text}")
