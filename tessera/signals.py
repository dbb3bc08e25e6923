"""SIGINT, SIGTERM and SIGHUP: they end a command at once, or where it says that it can end."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# A terminal that closes and timeout(1) send twice at once, which is no impatience.
_ONE_WISH_S = 0.1
_REMIND_S = 0.1


class Stopped(BaseException):
    """A signal was received; no Exception, so that nobody takes it for a fault and goes on.

    Attributes:
        number: of the signal; a shell expects the exit code 128 plus this.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopSignals:
    """The three signals, taken over within a ``with`` statement: the first one raises ``Stopped``.

    It waits until what is being imported is, because libraries in C++ abort the process or go on
    half made, and it is raised again if somebody swallows it, as Python itself does within a
    ``__del__``. The next signal ends the process at once. SIGHUP stays ignored where it is
    (``nohup``); SIGINT does not, of which a background job of a script is deaf. Outside the main
    thread, which alone gets signals, nothing is done.

    Args:
        ends_process: whether the process ends after the statement, with nobody left to catch
            Python's KeyboardInterrupt.

    Attributes:
        received: the signal's number, None as long as there was none.
        is_held: while true, a signal is only noted in ``received``.
        is_urgent: whether there is or will be a ``Stopped``; who goes on in spite of it must not.
    """

    def __init__(self, ends_process: bool = False) -> None:
        self.received: int | None = None
        self.is_held = self.is_urgent = False
        self._ends_process = ends_process
        self._received_at = 0.0
        self._is_reminder = False
        self._before: dict[int, Any] = {}
        self._leaving = threading.Lock()

    def __enter__(self) -> StopSignals:
        global _active
        if threading.current_thread() is threading.main_thread():
            self._outer, _active = _active, self
            self.is_held = True  # it cannot be caught in here
            self._hook_before, sys.unraisablehook = sys.unraisablehook, self._unraisable
            for number in _SIGNALS:
                before = signal.getsignal(number)
                is_left_alone = number == signal.SIGHUP and before == signal.SIG_IGN
                if before is not None and not is_left_alone:
                    self._before[number] = signal.signal(number, self._receive)
            self.is_held = False
            if self.received is not None:
                self._insist(self.received)
        return self

    def __exit__(self, *error: object) -> None:
        global _active
        if _active is not self:
            return
        with self._leaving:
            _active, sys.unraisablehook = self._outer, self._hook_before
        for number, handler in self._before.items():
            if self._ends_process and handler is signal.default_int_handler:
                handler = signal.SIG_DFL
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._is_reminder:
            self._is_reminder = False
            if not (self.is_held or _is_unwinding() or _is_importing(frame)):
                raise Stopped(number)
        elif self.received is None:
            self.received, self._received_at = number, now
            if not self.is_held:
                self._insist(number)
                if not _is_importing(frame):
                    raise Stopped(number)
        elif now - self._received_at > _ONE_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _insist(self, number: int) -> None:
        self.is_urgent = True
        # Not by the module threading, whose lock the main thread may have just now.
        _thread.start_new_thread(self._remind, (number,))

    def _remind(self, number: int) -> None:
        """Have the main thread look from time to time whether a ``Stopped`` is on its way."""
        while _active is self:
            time.sleep(_REMIND_S)
            with self._leaving:
                if _active is self:
                    self._is_reminder = True
                    _thread.interrupt_main(signal.Signals(number))

    def _unraisable(self, fault: Any) -> None:
        if not isinstance(fault.exc_value, Stopped):
            self._hook_before(fault)


def _is_unwinding() -> bool:
    """Whether a ``Stopped`` is being handled just now: by a ``finally``, on its way to the top."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported in this frame or in one of its callers."""
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


# Handlers are the process's, so there is one at a time.
_active: StopSignals | None = None


def active_signals() -> StopSignals | None:
    """What has taken the signals over, None if nothing has."""
    return _active
