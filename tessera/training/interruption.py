"""SIGTERM, SIGHUP and Ctrl-C within a training: finish the step, save, stop."""

from __future__ import annotations

import signal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from tessera.signals import Stopped, StopSignals, active_signals
from tessera.transfers import owned


class Interruption:
    """Holds the signals back while a training goes on, until it can be stopped.

    Before the first step and after the last one they are not held: there is nothing to save.
    """

    def __init__(self) -> None:
        self._signals: StopSignals | None = None
        self._own: StopSignals | None = None
        self._agreed: int | None = None

    def listen(self) -> None:
        """Only note a signal from now on.

        Raises:
            Stopped: if one was received before, and whoever was at work then swallowed it.
        """
        if self._signals is not None:
            return
        self._signals = active_signals()
        if self._signals is None:  # a trainer of somebody's own, not a command
            self._signals = self._own = StopSignals().__enter__()
        if self._signals.received is not None:
            raise Stopped(self._signals.received)
        self._signals.is_held = True

    def close(self) -> None:
        """Hold the signals no longer."""
        if self._signals is not None:
            self._signals.is_held = False
        if self._own is not None:
            self._own.__exit__()
        self._signals = self._own = self._agreed = None

    def is_due(self, trainer: Trainer) -> bool:
        """Whether to stop after this step; the same answer on every process."""
        received = self._signals.received if self._signals is not None else None
        if trainer.world_size == 1:
            self._agreed = received
        # Agreeing costs a wait for all processes, so they do it from time to time.
        elif trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            with owned("interruption"):
                number = torch.tensor(received or 0, device=trainer.strategy.root_device)
                self._agreed = int(trainer.strategy.reduce(number, reduce_op="max")) or None
        return self._agreed is not None

    def error(self) -> Stopped:
        """What to raise once everything is saved."""
        return Stopped(self._agreed or signal.SIGTERM)


class _WithoutSIGTERM(_SignalConnector):
    """Lightning's handlers without that of SIGTERM, which ends a run unsaved with exit code 0.

    It would also send a message to the other processes, who may be waiting for another one. What
    a SLURM cluster sends before it requeues a job is handled as Lightning does it.
    """

    def register_signal_handlers(self) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        super().register_signal_handlers()
        if handler is not None:
            self._register_signal(signal.SIGTERM, handler)


def keep_signals(trainer: Trainer) -> None:
    """Have the trainer leave SIGTERM to whoever has it; there is no public way to say so.

    Before every batch it would also ask the first process whether it has had one, and wait for its
    GPU each time; ``Interruption`` asks all of them, and seldom.
    """
    trainer._signal_connector = _WithoutSIGTERM(trainer)
    loop = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = _ask_nobody  # type: ignore[method-assign]


def _ask_nobody() -> None:
    """Takes the place of the question."""
