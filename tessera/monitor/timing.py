"""How long a model's forward takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tessera.stopwatch import Stopwatch


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
