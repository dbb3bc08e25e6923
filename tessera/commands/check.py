"""``tessera check``: whether this machine meets the design's five criteria, measured here and now."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from tessera.commands.criteria import (
    Finding,
    judge_engine,
    judge_long_games,
    judge_monitor,
    judge_progress,
    judge_transfers,
)

if TYPE_CHECKING:
    import torch

    from tessera.commands.training_trial import TrainingSettings

_WIDTH = 64  # of the table's column of what was measured
_BAR = "{desc} |{bar}| {percentage:.0f}% {elapsed}"
_MARKS = {"passed": "yes", "failed": "NO", "not measurable here": "not measurable here"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is played and trained.

    Attributes:
        board_size: of the games of criteria 1 and 5.
        num_batches: of criterion 1, and again of criterion 5.
        whole_games: in a batch of criterion 1.
        long_games: in a batch of criterion 5.
        plies: moves in each place of a batch of criterion 5.
        d_model: of the model that plays them.
        training: the training that criteria 2, 3 and 4 look at.
    """

    training: TrainingSettings
    board_size: int = 19
    num_batches: int = 10
    whole_games: int = 100
    long_games: int = 8
    plies: int = 300
    d_model: int = 256


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run of ``check`` found.

    Attributes:
        machine: where it ran, in words.
        device: the device it was asked about.
        seed: of games, weights and moves.
        seconds: how long it took.
        findings: the five, in their order.
    """

    machine: str
    device: str
    seed: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether all criteria are met; one that could not be measured is not."""
        return all(finding.verdict == "passed" for finding in self.findings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera check`` with these arguments (those of the process if None).

    Returns:
        0 if all five criteria are met, otherwise 1; a wrong argument ends the process with one
        line and exit code 2.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    device = _checked(parser, arguments)
    report = measure(device, arguments.seed, scale_for(device))
    print("\n".join(lines(report)))
    if arguments.json is not None:
        text = json.dumps(as_json(report), indent=2, allow_nan=False) + "\n"
        try:
            arguments.json.write_text(text)
        except OSError as error:
            parser.error(f"--json: {error}.")
    return 0 if report.passed else 1


def scale_for(device: torch.device) -> Scale:
    """The design's figures: its own model on a GPU, the quickstart's on a CPU."""
    from tessera.commands.training_trial import CPU_TRAINING, GPU_TRAINING

    if device.type == "cuda":
        return Scale(GPU_TRAINING, long_games=64)
    return Scale(CPU_TRAINING)


def measure(device: torch.device, seed: int, scale: Scale) -> Report:
    """Measure and judge the five criteria."""
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    import torch

    from tessera.commands.engine_trial import play_whole_games
    from tessera.commands.long_games_trial import new_model, play_long_games
    from tessera.commands.quiet import quieten
    from tessera.commands.training_trial import train

    quieten()
    # Operations are so short here that a second core gains little, and loses much on a busy one.
    torch.set_num_threads(1)
    began = time.monotonic()
    progress = _Progress()
    size, batches = scale.board_size, scale.num_batches

    with progress.part("1 the engine is stable"):
        whole = play_whole_games(
            device,
            seed=seed,
            board_size=size,
            num_batches=batches,
            num_games=scale.whole_games,
            tell=lambda done: progress.move(done / batches),
        )
    findings = [progress.found(judge_engine(whole))]

    with progress.part("2, 3 and 4: a training"):
        run = train(scale.training, device, seed, progress.move)
    for judge in (judge_progress, judge_transfers, judge_monitor):
        findings.append(progress.found(judge(run)))

    with progress.part("5 stable past the middle game"):
        played = play_long_games(
            new_model(size, scale.d_model, device, seed),
            device,
            seed=seed,
            board_size=size,
            num_batches=batches,
            num_games=scale.long_games,
            plies=scale.plies,
            tell=lambda done: progress.move(done / batches),
        )
    findings.append(progress.found(judge_long_games(played, scale.plies)))
    progress.close()
    seconds = time.monotonic() - began
    return Report(machine(device), str(device), seed, seconds, tuple(findings))
