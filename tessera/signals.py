"""SIGINT, SIGTERM and SIGHUP: they end a command at once, or where it says that it can end."""

from __future__ import annotations

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

    The next one ends the process at once. SIGHUP stays ignored where it is (``nohup``); SIGINT does
    not, of which a background job of a script is deaf. Outside the main thread, which alone gets
    signals, nothing is done.

    Args:
        ends_process: whether the process ends after the statement, with nobody left to catch
            Python's KeyboardInterrupt.

    Attributes:
        received: the signal's number, None as long as there was none.
        is_held: while true, a signal is only noted in ``received``.
        was_raised: whether there was a ``Stopped``; who goes on in spite of it swallowed it.
    """

    def __init__(self, ends_process: bool = False) -> None:
        self.received: int | None = None
        self.is_held = self.was_raised = False
        self._ends_process = ends_process
        self._received_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        global _active
        if threading.current_thread() is threading.main_thread():
            self._outer, _active = _active, self
            self._hook_before, sys.unraisablehook = sys.unraisablehook, self._unraisable
            for number in _SIGNALS:
                before = signal.getsignal(number)
                is_left_alone = number == signal.SIGHUP and before == signal.SIG_IGN
                if before is not None and not is_left_alone:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        global _active
        if _active is not self:
            return
        for number, handler in self._before.items():
            if self._ends_process and handler is signal.default_int_handler:
                handler = signal.SIG_DFL
            signal.signal(number, handler)
        _active, sys.unraisablehook = self._outer, self._hook_before

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = number, now
            if not self.is_held:
                self.was_raised = True
                raise Stopped(number)
        elif now - self._received_at > _ONE_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _unraisable(self, fault: Any) -> None:
        """Python drops what is raised within a ``__del__`` or a weak reference's callback."""
        if not isinstance(fault.exc_value, Stopped):
            self._hook_before(fault)
            return
        self.received = None
        # Sent from another thread, or it would be raised in here.
        threading.Timer(0.01, os.kill, (os.getpid(), fault.exc_value.number)).start()


# Handlers are the process's, so there is one at a time.
_active: StopSignals | None = None


def active_signals() -> StopSignals | None:
    """What has taken the signals over, None if nothing has."""
    return _active
