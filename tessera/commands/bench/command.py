"""``tessera bench``: what this machine reaches, measured, beside what others reach on it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from tessera.accelerator import memory_problem
from tessera.commands.arguments import OneLineParser, find_device
from tessera.commands.bench import (
    contexts_command,
    engine_report,
    map_command,
    memory_command,
    mixers_command,
    search_command,
    selfplay_speed,
    train_speed,
)
from tessera.commands.bench.engine_speed import Timing
from tessera.commands.ending import say
from tessera.commands.json_file import tell
from tessera.commands.one_line import one_line
from tessera.go import Rules
from tessera.setting_errors import Problem, SettingError, noted, or_none, problems_of, whole
from tessera.training.checkpoint_file import CheckpointError
from tessera.vocabulary import check_board_size


class AnyReport(Protocol):
    """What a bench has found."""

    def lines(self) -> list[str]:
        """The report as a person reads it."""

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""


_KINDS = {
    "engine": "plies a second of the Go engine, beside PGX and OpenSpiel if they are installed",
    "selfplay": "plies a second of a model playing itself, and of its step beside mamba_ssm's",
    "search": "moves a second of a search playing itself, and where the time goes",
    "train": "tokens a second of training, beside mamba_ssm's layers if they are installed",
    "map": "from a move to its whole map, in the program and as a Go program waits for it",
    "memory": "bytes of the sibling designs' models, counted and measured, beside the published",
    "mixers": "a training step of every mixer, beside Mamba's",
    "contexts": "New-LLM's context blocks at their sizes: ranks and convergence, before and after",
}
# Kinds with options of their own.
_OWN: dict[str, Any] = {
    "search": search_command,
    "map": map_command,
    "memory": memory_command,
    "mixers": mixers_command,
    "contexts": contexts_command,
}
_MOST = {"batch_size": 2**62, "runs": 1_000, "threads": 1_024}
_ALLOWED = {name: or_none(whole(1, most)) for name, most in _MOST.items()}
_LONGEST_S = 3_600
_GAMES, _GAMES_ON_A_GPU = 256, 16_384  # of self-play, at once


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera bench`` with these arguments (those of the process if None).

    Returns:
        0; 1 if memory ran out; 2 for a checkpoint that cannot be used, with a line that says why;
        a wrong argument ends the process with one line and 2 as well.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    own = _OWN.get(arguments.kind)
    device = (own.checked if own else _checked)(parser, arguments)
    # Without a number torch gets one thread, as ``play_games`` takes it, and rivals what they like.
    before = torch.get_num_threads()
    threads: int | None = getattr(arguments, "threads", None)
    torch.set_num_threads(threads or 1)
    if threads is not None and hasattr(os, "sched_setaffinity"):
        # The rivals' threads start later.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        report = _measure(arguments, device)
    except torch.OutOfMemoryError:
        advice = "" if own else ": lower --batch_size"
        print(f"{parser.prog}: out of memory on {device}{advice}.", file=sys.stderr)
        return 1
    except (CheckpointError, SettingError) as error:
        torch.set_num_threads(before)  # nothing has begun
        return say(one_line(" ".join(str(error).splitlines())), 2)
    tell(report.lines(), arguments.json, report.as_json())
    return 0


def _measure(arguments: argparse.Namespace, device: torch.device) -> AnyReport:
    if own := _OWN.get(arguments.kind):
        found: AnyReport = own.measure(arguments, device)
        return found
    runs = arguments.runs or (5 if device.type == "cuda" else 1)
    timing = Timing(device, arguments.seconds, runs)
    if arguments.kind == "engine":
        return engine_report.measure(arguments.board_size, arguments.batch_size, timing)
    if arguments.kind == "train":
        return train_speed.measure(arguments.board_size[0], timing)
    batch = arguments.batch_size or (_GAMES_ON_A_GPU if device.type == "cuda" else _GAMES)
    return selfplay_speed.measure(arguments.board_size[0], batch, timing)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera bench", description=__doc__, allow_abbrev=False)
    names = f"{{{','.join(_KINDS)}}}"
    kinds = parser.add_subparsers(dest="kind", required=True, metavar=names)
    for kind, what in _KINDS.items():
        of_kind = kinds.add_parser(kind, allow_abbrev=False, help=what, description=what)
        if own := _OWN.get(kind):
            own.add_options(of_kind)
            continue
        add = of_kind.add_argument
        several = kind == "engine"
        boards = "2 to 19, one or more (default: 19; 19 and 9 on a GPU)"
        boards = boards if several else "2 to 19 (default: 19)"
        add("--board_size", type=int, nargs="+" if several else 1, help=boards)
        if kind != "train":
            games = "games at once (default: what suits the device and its free memory)"
            add("--batch_size", type=int, help=games)
        add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
        add("--seconds", type=float, default=5.0, help="least time for each row (default: 5)")
        runs = "parts of that time, whose median counts (default: 1; 5 on a GPU)"
        add("--runs", type=int, help=runs)
        add("--threads", type=int, help="CPU cores (default: one, and all for the rivals)")
        add(
            "--json",
            metavar="FILE",
            help="also write the figures to this file; - prints that alone",
        )
    return parser


def _checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    problems: list[Problem] = []
    for size in arguments.board_size or ():
        with noted(problems):
            check_board_size("board_size", size)
    problems += problems_of(arguments, _ALLOWED)
    if not 0 < arguments.seconds <= _LONGEST_S:
        must = f"be at most {_LONGEST_S}" if arguments.seconds > 0 else "be more than 0"
        problems.append(Problem("seconds", arguments.seconds, must))
    device = find_device(arguments, parser, [f"--{problem}" for problem in problems])
    if arguments.board_size is None:
        arguments.board_size = [19, 9] if device.type == "cuda" else [19]
    games = getattr(arguments, "batch_size", None) or 0
    num_bytes = games * Rules().bytes_per_game(max(arguments.board_size))
    if need := memory_problem(num_bytes, device):
        parser.error(f"--batch_size must be less, got {games}: so many games need {need}.")
    return device
