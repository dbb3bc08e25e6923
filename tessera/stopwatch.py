"""How long a piece of work takes, without waiting for the GPU that does it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Stopwatch:
    """Times what runs in a ``with`` block; ``ms`` is known once the device has done it.

    On a CUDA device a pair of events in the stream that is current when it is made, on any other
    the host's clock. May be started again.

    Args:
        device: where the work is done.
        clock: of the host, in seconds.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
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
            self._began_s = self._clock()
        else:
            self._began.record(self._stream)

    def stop(self) -> None:
        """End."""
        if self._stream is None:
            self._ended_s = self._clock()
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

    def __exit__(self, *error: object) -> None:
        self.stop()
