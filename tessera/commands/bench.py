"""``tessera bench``: what this machine reaches, measured, beside what others reach on it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import torch

from tessera.commands.engine_speed import (
    Costs,
    Speed,
    time_games,
    time_mask_and_play,
    time_parts,
)
from tessera.commands.rivals import RIVALS, NotMeasuredError
from tessera.go import PLAYERS
from tessera.vocabulary import check_board_size


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run of ``bench engine`` measured.

    Attributes:
        machine: where it ran, in words.
        board_size: n.
        speeds: Tessera's rows, uniform games first, then the rivals' that could be timed.
        missing: why each other rival was not timed, by its name.
        costs: where the time of a ply goes.
    """

    machine: str
    board_size: int
    speeds: tuple[Speed, ...]
    missing: dict[str, str]
    costs: Costs

    def ratios(self) -> dict[str, float]:
        """Uniform games' plies a second over each rival's."""
        ours = self.speeds[0].plies_per_s
        return {s.name: ours / s.plies_per_s for s in self.speeds if s.name != "Tessera"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera bench`` with these arguments (those of the process if None).

    Returns:
        0; a wrong argument ends the process with one line and exit code 2.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    device = _checked(parser, arguments)
    _use_threads(arguments.threads)
    report = measure(arguments.board_size, arguments.batch_size, device, arguments.seconds)
    print("\n".join(lines(report)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(as_json(report), indent=2) + "\n")
    return 0


def measure(board_size: int, batch_size: int, device: torch.device, seconds: float) -> Report:
    """Time Tessera, then every rival that is installed."""
    speeds = []
    for name in PLAYERS:
        _say(f"{batch_size:,} whole {name} games")
        speeds.append(time_games(name, board_size, batch_size, device, seconds))
    _say("mask and play")
    speeds.append(time_mask_and_play(board_size, batch_size, device, seconds))
    costs = time_parts(board_size, batch_size, device, seconds)
    missing = {}
    for rival in RIVALS:
        _say(rival.name)
        try:
            speeds.append(rival.time(board_size, device.type, seconds))
        except NotMeasuredError as error:
            missing[rival.name] = str(error)
    return Report(_machine(device), board_size, tuple(speeds), missing, costs)


def _say(what: str) -> None:
    """Tell a waiting person what is being timed, apart from the report."""
    print(f"timing {what} ...", file=sys.stderr, flush=True)


def lines(report: Report) -> list[str]:
    """The report as a person reads it."""
    n, costs = report.board_size, report.costs
    rows = [
        f"{s.name:18} {s.what:34} {s.plies_per_s:12,.0f} {s.batch_size:8,} {s.plies:12,}"
        f" {s.seconds:8.1f}"
        for s in report.speeds
    ]
    absent = [f"{name:18} {reason}" for name, reason in report.missing.items()]
    head = f"{'engine':18} {'what':34} {'plies/s':>12} {'batch':>8} {'plies':>12} {'seconds':>8}"
    ratios = [
        f"Tessera's uniform games are {ratio:.3g} times as fast as {name} here."
        for name, ratio in report.ratios().items()
    ]
    calls = costs.one_game_ms / costs.ply_ms
    return [
        f"{n}×{n} on {report.machine}",
        "",
        head,
        *rows,
        *absent,
        "",
        *ratios,
        f"What bounds it: a ply of {costs.batch_size:,} games takes {costs.ply_ms:.1f} ms:"
        f" legal mask {costs.mask_ms:.1f}, player's choice {costs.choice_ms:.1f}, play"
        f" {costs.play_ms:.1f} (means over the first {costs.plies} plies).",
        f"The same calls on one game take {costs.one_game_ms:.1f} ms, {calls:.0%} of that;"
        " the rest is work that grows with the games.",
    ]


def as_json(report: Report) -> dict[str, object]:
    """The report as plain values, with what follows from them."""
    speeds = [{**asdict(s), "plies_per_s": s.plies_per_s} for s in report.speeds]
    return {**asdict(report), "speeds": speeds, "ratios": report.ratios()}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tessera bench", description=__doc__, allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{engine}")
    engine = kinds.add_parser(
        "engine",
        allow_abbrev=False,
        help="plies a second of the Go engine, beside PGX and OpenSpiel if they are installed",
    )
    add = engine.add_argument
    add("--board_size", type=int, default=19, help="2 to 19 (default: 19)")
    add("--batch_size", type=int, default=4096, help="games at once (default: 4096)")
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    add("--seconds", type=float, default=5.0, help="least time for each row (default: 5)")
    add("--threads", type=int, help="CPU cores (default: one, and all for the rivals)")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return parser


def _checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    problems = []
    try:
        check_board_size(arguments.board_size, "--board_size")
    except ValueError as error:
        problems.append(str(error))
    for name in ("batch_size", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            problems.append(f"--{name} must be at least 1, got {value}.")
    if not 0 < arguments.seconds < float("inf"):
        problems.append(f"--seconds must be more than 0, got {arguments.seconds}.")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        problems.append(f"--json: there is no folder {arguments.json.parent}.")
    has_cuda = torch.cuda.is_available()
    name = arguments.device
    if name == "auto":
        name = "cuda" if has_cuda else "cpu"
    device = torch.device("cpu")
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        problems.append(f"--device must be auto, cpu or cuda, got {name}.")
    if device.type == "cuda" and not has_cuda:
        problems.append("--device: torch finds no CUDA device here; use cpu.")
    if problems:
        parser.error(" ".join(problems))
    return device


def _use_threads(threads: int | None) -> None:
    """Keep torch and the rivals, whose threads start later, on so many cores.

    Without a number torch gets one, as ``play_games`` takes it, and the rivals what they like.
    """
    torch.set_num_threads(threads or 1)
    if threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _machine(device: torch.device) -> str:
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {software}"
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}, {software}"


if __name__ == "__main__":
    sys.exit(main())
