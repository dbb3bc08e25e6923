"""Runs that are watched, with callbacks of the test's own, and what they leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.commands.fit.lightning_cli import TesseraCLI
from tessera.monitor import Copy, TesseraMonitor
from tests.runs import tessera

LOGS = Path("lightning_logs/small/version_0")


def run(
    *options: object, callbacks: tuple[Callback, ...] = (), config: str | Path = "small.yaml"
) -> TesseraMonitor:
    """``tessera fit``, which has to end well, with more callbacks; the run's monitor."""
    trainers: list[Trainer] = []
    with pytest.MonkeyPatch.context() as patch:

        def with_callbacks(self: TesseraCLI, **kwargs: Any) -> None:
            self.trainer.callbacks.extend(callbacks)
            trainers.append(self.trainer)
            original(self, **kwargs)

        original = TesseraCLI.fit
        patch.setattr(TesseraCLI, "fit", with_callbacks)
        assert tessera("fit", "--config", config, *options) == 0
    return next(c for c in trainers[0].callbacks if isinstance(c, TesseraMonitor))


def scalars(logs: Path = LOGS) -> dict[str, dict[int, float]]:
    log = EventAccumulator(str(logs), size_guidance={"scalars": 0})
    log.Reload()
    return {tag: {e.step: e.value for e in log.Scalars(tag)} for tag in log.Tags()["scalars"]}


class RecordedCopies:
    """Stands in for the profiler, which needs a GPU: finds the same copy in every recording."""

    copy = Copy("aten::copy_", "DtoH", 4, 0.002, None, ("aten::to", "aten::copy_"))

    def __init__(self, device: torch.device) -> None:
        self.why_absent: dict[str, str] = {}
        self.is_recording = False

    def start(self) -> None:
        self.is_recording = True

    def stop(self) -> list[Copy]:
        self.is_recording = False
        return [self.copy]

    close = start
