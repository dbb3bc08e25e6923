"""SIGTERM and Ctrl-C: finish the step, save, stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer

from tessera.transfers import owned

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """Training was stopped by a signal, after its state was saved.

    Attributes:
        signal_number: the signal; a shell expects the exit code 128 plus this.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class Interruption:
    """Listens for SIGINT and SIGTERM; the second one ends the process at once."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take over both signals; does nothing outside the main thread."""
        self._received = None
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}

    def close(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def is_due(self, trainer: Trainer) -> bool:
        """Whether to stop after this step; the same answer on every process."""
        if trainer.world_size == 1:
            return self._received is not None
        # Agreeing costs a wait for all processes, so they do it from time to time.
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return False
        with owned("interruption"):
            received = torch.tensor(self._received or 0, device=trainer.strategy.root_device)
            agreed = int(trainer.strategy.reduce(received, reduce_op="max"))
        self._received = agreed or None
        return agreed > 0

    def error(self) -> Interrupted:
        """What to raise once everything is saved."""
        return Interrupted(self._received or signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = number
