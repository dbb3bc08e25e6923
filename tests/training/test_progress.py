"""What is told of a run in a log file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tessera.training import progress
from tessera.training.progress import RunProgress


@pytest.mark.parametrize("every_s", [0.0, 1e9])
@pytest.mark.parametrize("is_told", [False, True])
def test_the_last_step_has_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    every_s: float,
    is_told: bool,
) -> None:
    monkeypatch.setattr(progress, "_LINE_S", every_s)
    trainer: Any = SimpleNamespace(
        max_steps=2, global_step=0, callback_metrics={}, lightning_module=None
    )
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    shown = RunProgress()
    shown.on_train_start(trainer, module)
    for step in (1, 2):
        trainer.global_step = step
        shown.on_train_batch_end(trainer, module, None, None, 0)
    if is_told:  # after a validation it is said where the run ended
        shown.tell("validation at step 2", {"loss": "1.000"})
    shown.on_train_end(trainer, module)
    lines = [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()]
    steps = ["step 1/2", "step 2/2"] if every_s == 0 else []
    if is_told:
        steps += ["validation at step 2: loss 1.000"]
    assert lines == (steps if every_s == 0 and not is_told else [*steps, "step 2/2"])
