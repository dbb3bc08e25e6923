"""A training in several processes ends in all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from lightning.pytorch import Trainer

from tessera.signals import Stopped, active_signals

_LOOK_S = 0.5  # between two looks at the others
_NOTICE_S = 5.0  # for this process to notice by itself that another one is gone
_GRACE_S = 2.0  # for another process to end by itself


class OtherProcessError(RuntimeError):
    """Another process of the run failed; the message is empty if that one has said why."""


class EndedTogether:
    """The ``with`` statement is the run: if it fails in one process, it ends in all of them.

    It takes the place of Lightning's observer, which kills this process too, whatever it is doing,
    as soon as it sees that another one has ended: while it saves, or says what is wrong.

    Args:
        trainer: whose strategy starts the other processes, if there are any.

    Raises:
        Stopped: instead of torch's error about a lost connection, if this process or one that it
            started was stopped by a signal.
        OtherProcessError: the same if one that it started failed.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._launcher = trainer.strategy.launcher
        self._num_processes = trainer.world_size
        self._parent = os.getppid() if trainer.global_rank else None
        self._others: list[subprocess.Popen[bytes]] = []
        self._is_over = threading.Event()

    def __enter__(self) -> None:
        if self._num_processes > 1 and hasattr(self._launcher, "procs"):
            threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._is_over.set()
        if error is None:
            return
        self._adopt()
        # torch says in many words that there is nobody at the other end.
        is_cut_off = isinstance(error, RuntimeError) and self._num_processes > 1
        failed = self._wait_for_failure() if is_cut_off else None
        self._end_others()
        signals = active_signals()
        received = signals.received if signals is not None else None
        if is_cut_off and received is not None:
            raise Stopped(received) from error
        if is_cut_off and failed is not None:
            raise failed from error

    def _adopt(self) -> None:
        """Take the processes over from Lightning, whose observer ends when it has none."""
        launched: list[subprocess.Popen[bytes]] = getattr(self._launcher, "procs", [])
        self._others += launched
        launched.clear()

    def _failed(self) -> Stopped | OtherProcessError | None:
        """What the end of another process means for the run, None as long as all are there."""
        if self._parent is not None and os.getppid() != self._parent:
            return OtherProcessError("the first process of this run is gone.")
        code = next((code for other in self._others if (code := other.poll())), None)
        if code is None:
            return None
        if code - 128 in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            return Stopped(code - 128)
        if code > 0:
            return OtherProcessError()  # it has said why
        return OtherProcessError(
            f"another process of this run was ended by {signal.Signals(-code).name}."
        )

    def _watch(self) -> None:
        """End everything if another process failed and this one waits for it in vain."""
        while not self._is_over.wait(_LOOK_S):
            self._adopt()
            failed = self._failed()
            if failed is not None and not self._is_over.wait(_NOTICE_S):
                self._end_others()
                for line in str(failed).splitlines():
                    print(f"tessera: {line}", file=sys.stderr, flush=True)
                os._exit(128 + failed.number if isinstance(failed, Stopped) else 1)

    def _wait_for_failure(self) -> Stopped | OtherProcessError | None:
        """The connection is lost a moment before the process is gone."""
        until = time.monotonic() + _GRACE_S
        while (failed := self._failed()) is None and time.monotonic() < until:
            time.sleep(0.05)
        return failed

    def _end_others(self) -> None:
        for other in self._others:
            other.terminate()
        for other in self._others:
            try:
                other.wait(_GRACE_S)
            except subprocess.TimeoutExpired:  # it waits for this process, in torch's own code
                other.kill()
                other.wait()
