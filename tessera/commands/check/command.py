"""``tessera check``: whether this machine meets the design's five criteria, measured on it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from tessera.commands.arguments import OneLineParser, find_device
from tessera.commands.json_file import tell

if TYPE_CHECKING:
    import torch

    from tessera.commands.check.criteria import Finding
    from tessera.commands.check.report import Report
    from tessera.commands.check.trials import Scale, Tell


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera check`` with these arguments (those of the process if None).

    Returns:
        0 if all five criteria are met, otherwise 1; a wrong argument ends the process with one
        line and exit code 2.
    """
    parser = OneLineParser(prog="tessera check", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--device", default="auto", help="cuda or cpu; auto takes the GPU if there is one")
    add("--seed", type=int, default=0, help="of games, weights and moves (default: 0)")
    add("--json", metavar="FILE", help="also write everything to this file; - prints that alone")
    arguments = parser.parse_args(argv)
    problems = []
    if not 0 <= arguments.seed < 2**32:
        problems.append(f"--seed must be 0 to {2**32 - 1}, got {arguments.seed}.")
    device = find_device(arguments, parser, problems)
    report = measure(device, arguments.seed, scale_for(device))
    tell(report.lines(), arguments.json, report.as_json())
    return 0 if report.passed else 1


def scale_for(device: torch.device) -> Scale:
    """The design's figures: a model of its width on a GPU, the quickstart's on a CPU."""
    from tessera.commands.check.training_trial import CPU_TRAINING, GPU_TRAINING
    from tessera.commands.check.trials import Scale

    if device.type == "cuda":
        return Scale(GPU_TRAINING, long_games=64)
    return Scale(CPU_TRAINING)


def measure(device: torch.device, seed: int, scale: Scale) -> Report:
    """Measure and judge the five criteria."""
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    import torch

    from tessera.commands.light_metrics import load_metrics_lightly

    load_metrics_lightly()
    from tessera.commands.check import criteria
    from tessera.commands.check.engine_trial import play_whole_games
    from tessera.commands.check.long_games_trial import new_model, play_long_games
    from tessera.commands.check.report import Report
    from tessera.commands.check.training_trial import train
    from tessera.commands.machine import machine_name

    def train_once(tell: Tell) -> list[Finding]:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # or the training would look as if its memory had holes
        run = train(scale.training, device, seed, tell)
        judges = (criteria.judge_progress, criteria.judge_transfers, criteria.judge_monitor)
        return [judge(run) for judge in judges]

    def play_long(tell: Tell) -> list[Finding]:
        model = new_model(scale.board_size, scale.d_model, device, seed)
        return [criteria.judge_long_games(play_long_games(model, scale, seed, tell), scale.plies)]

    # Operations are so short here that a second core gains little, and loses much on a busy one.
    torch.set_num_threads(1)
    began = time.monotonic()
    trials = {
        "1 the engine is stable": lambda tell: [
            criteria.judge_engine(play_whole_games(device, scale, seed, tell))
        ],
        "2, 3 and 4: a training": train_once,
        "5 stable past the middle game": play_long,
    }
    findings = tuple(tried(trials))
    return Report(machine_name(device), str(device), seed, time.monotonic() - began, findings)


def tried(trials: Mapping[str, Callable[[Tell], list[Finding]]]) -> Iterator[Finding]:
    """What each trial finds, under a bar over all of them; a log file gets a line for each finding.

    Args:
        trials: by name; each is given what to tell how much of it is done, 0 to 1.
    """
    began = time.monotonic()
    with tqdm(
        total=float(len(trials)),
        file=sys.stderr,
        disable=None,  # where it is not a terminal
        leave=False,
        # A terminal that does not know its width says 0; this makes it 100.
        ncols=shutil.get_terminal_size((100, 24)).columns,
        bar_format="{desc} |{bar}| {percentage:.0f}% {elapsed}",
    ) as bar:
        for before, (name, attempt) in enumerate(trials.items()):

            def move(share: float, before: int = before) -> None:
                bar.n = before + share
                bar.refresh()

            bar.set_description_str(name)
            findings = attempt(move)
            move(1)
            for finding in findings:
                if bar.disable:
                    told = f"criterion {finding.number}, {finding.name}: {finding.verdict}"
                    seconds = time.monotonic() - began
                    print(f"{told} ({seconds:.0f} s)", file=sys.stderr, flush=True)
                yield finding
