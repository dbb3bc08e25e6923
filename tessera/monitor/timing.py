"""How long a piece of GPU work takes, without waiting for it; and the model's forward."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import torch
from torch import nn


class Stopwatch:
    """Times what runs in a ``with`` block; ``ms`` is known once the device has done it.

    On a CUDA device a pair of events in the stream that is current when it is made, on any other
    the host's clock. May be started again.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.current_stream(device)
            self._began = torch.cuda.Event(enable_timing=True)
            self._ended = torch.cuda.Event(enable_timing=True)
        self._is_over = False
        self._began_s = self._ended_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._is_over = False
        if self._stream is None:
            self._began_s = time.perf_counter()
        else:
            self._began.record(self._stream)

    def stop(self) -> None:
        """End."""
        if self._stream is None:
            self._ended_s = time.perf_counter()
        else:
            self._ended.record(self._stream)
        self._is_over = True

    def ms(self) -> float | None:
        """Milliseconds, or None as long as the device is not through; never waits."""
        if not self._is_over:
            return None
        if self._stream is None:
            return (self._ended_s - self._began_s) * 1e3
        return self._began.elapsed_time(self._ended) if self._ended.query() else None

    def __enter__(self) -> Stopwatch:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class TimingProbe:
    """Times the forward of a model: ``time_forward``, read one sample later.

    Args:
        model: whose forward.
        device: where it runs.

    Attributes:
        metrics: the names of what is read.
        why_absent: empty; a forward can always be timed.
    """

    metrics = ("time_forward",)

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.why_absent: dict[str, str] = {}
        self._is_looking = False
        # One for all samples: making events takes as long as recording them.
        self._watch = Stopwatch(device)
        self._is_running = self._is_new = False
        self._handles = [
            model.register_forward_pre_hook(self._start),
            model.register_forward_hook(self._stop),
        ]

    def begin(self) -> None:
        """Time the forwards from here on."""
        self._is_looking = True

    def end(self) -> None:
        """Let forwards pass unseen."""
        self._is_looking = False

    def read(self) -> dict[str, float]:
        """The newest forward that the device has finished since the last call."""
        ms = self._watch.ms() if self._is_new else None
        if ms is None:
            return {}
        self._is_new = False
        return {"time_forward": ms}

    def close(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _start(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        # While one is still under way no second one is begun, or none would ever be read.
        if self._is_looking and not self._is_new:
            self._watch.start()
            self._is_running = True

    def _stop(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._is_running:
            self._watch.stop()
            self._is_running, self._is_new = False, True
