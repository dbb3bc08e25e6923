"""What ``tessera bench search`` is asked for: a checkpoint, or a model with new weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch

from tessera.accelerator import memory_problem
from tessera.commands.arguments import (
    WHICH_MODEL,
    find_device,
)
from tessera.commands.bench import search_speed
from tessera.commands.bench.engine_speed import Timing
from tessera.commands.bench.report import say
from tessera.commands.bench.search_speed import SearchSpeed
from tessera.companion import load
from tessera.go import Rules
from tessera.play.evaluator import check_evaluator
from tessera.setting_errors import Problem, noted, or_none, problems_of, whole, whole_number
from tessera.training.run_folder import find_checkpoint, name_of_model
from tessera.vocabulary import check_board_size

_LONGEST_S = 3_600
_GAMES, _GAMES_ON_A_GPU = 16, 4096
_ALLOWED = {
    "batch_size": or_none(whole(1, 2**62)),
    "considered": whole(1, 2**62),
    "channels": whole(1, 4_096),
    "depth": whole(1, 256),
    "runs": or_none(whole(1, 1_000)),
    "threads": or_none(whole(1, 1_024)),
}
_MOST_SIMULATIONS = 2**15 - 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let everything be said that can be chosen."""
    add = parser.add_argument
    add("--ckpt_path", metavar="FILE", help=f"{WHICH_MODEL} (default: none)")
    add("--run_name", default="selfplay", help="whose newest run that is (default: selfplay)")
    what = "of a model with new weights, which take as long as others"
    add("--channels", type=int, default=64, help=f"{what} (default: 64)")
    add("--depth", type=int, default=2, help="its residual convolutions (default: 2)")
    boards = "2 to 19, one or more (default: 9, or the checkpoint's)"
    add("--board_size", type=int, nargs="+", help=boards)
    searched = "positions evaluated for a move, one or more numbers (default: 16)"
    add("--simulations", type=int, nargs="+", default=[16], help=searched)
    add("--considered", type=int, default=16, help="moves looked at, at most (default: 16)")
    games = f"games at once (default: {_GAMES}; {_GAMES_ON_A_GPU} on a GPU)"
    add("--batch_size", type=int, help=games)
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    add("--seconds", type=float, default=5.0, help="least time for each row (default: 5)")
    runs = "parts of that time, whose median counts (default: 1; 5 on a GPU)"
    add("--runs", type=int, help=runs)
    add("--threads", type=int, help="CPU cores (default: one)")
    add("--json", metavar="FILE", help="also write the figures to this file; - prints that alone")


def checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    found: list[Problem] = []
    for size in arguments.board_size or ():
        with noted(found):
            check_board_size("board_size", size)
    for number in arguments.simulations:
        with noted(found):
            whole_number("simulations", number, 0, _MOST_SIMULATIONS)
    found += problems_of(arguments, _ALLOWED)
    if not 0 < arguments.seconds <= _LONGEST_S:
        must = f"be at most {_LONGEST_S}" if arguments.seconds > 0 else "be more than 0"
        found.append(Problem("seconds", arguments.seconds, must))
    problems = [f"--{problem}" for problem in found]
    if arguments.ckpt_path == "":
        problems.append("--ckpt_path must name the model, or be last; got none.")
    if arguments.ckpt_path is not None and len(arguments.board_size or ()) > 1:
        problems.append("--board_size must be one with --ckpt_path: it has a model.")
    device = find_device(arguments, parser, problems)
    games = arguments.batch_size or (_GAMES_ON_A_GPU if device.type == "cuda" else _GAMES)
    arguments.batch_size = games
    nodes = max(arguments.simulations) + 1
    of_a_game = Rules().bytes_per_game(max(arguments.board_size or [9]))
    if need := memory_problem(games * nodes * of_a_game, device):
        parser.error(f"--batch_size must be less, got {games}: so many trees need {need}.")
    return device


def measure(arguments: argparse.Namespace, device: torch.device) -> search_speed.SearchReport:
    """Time what was asked for.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        SettingError: if it is of another board, the run's name is none, or the model tells a search
            nothing.
    """
    runs = arguments.runs or (5 if device.type == "cuda" else 1)
    timing = Timing(device, arguments.seconds, runs)
    rows: list[Callable[[], SearchSpeed]] = []
    rules: str | Rules = "full"
    for size in arguments.board_size or [None]:
        if arguments.ckpt_path is None:
            size = size or 9
            name = f"{arguments.channels} channels, depth {arguments.depth}"
            model = search_speed.new_model(size, arguments.channels, arguments.depth, device)
        else:
            path = find_checkpoint(arguments.ckpt_path, arguments.run_name)
            companion = load(path, device, size)
            check_evaluator(companion.model)
            name, model, rules = name_of_model(path), companion.model, companion.rules
            size = companion.board_size
        for simulations in arguments.simulations:
            row = partial(search_speed.time_search, name, model, rules, simulations)
            row = partial(row, arguments.considered, arguments.batch_size, timing)
            rows.append(partial(_said, f"{name}, {size}×{size}, {simulations} simulations", row))
    return search_speed.measure(rows, device)


def _said(what: str, row: Callable[[], SearchSpeed]) -> SearchSpeed:
    say(what)
    return row()
