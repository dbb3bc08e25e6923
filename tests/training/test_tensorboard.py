"""What the logger writes, as TensorBoard reads it."""

from __future__ import annotations

from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.training.tensorboard import GroupedLogger


def test_figures_of_a_step_are_curves_of_their_own_and_what_has_no_group_is_left_out(
    tmp_path: Path,
) -> None:
    logger = GroupedLogger(tmp_path, "run", "version_0")
    for step in (3, 7):
        figures = {"train/loss": torch.tensor(0.5 * step), "val/top1": 0.25, "epoch": 0}
        logger.log_metrics(figures, step)
    logger.save()
    log = EventAccumulator(logger.log_dir)
    log.Reload()
    assert sorted(log.Tags()["scalars"]) == ["train/loss", "val/top1"]
    assert [(e.step, e.value) for e in log.Scalars("train/loss")] == [(3, 1.5), (7, 3.5)]
