"""What ``tessera bench map`` is asked for: a checkpoint, or configurations whose models are new."""

from __future__ import annotations

import argparse

import torch

from tessera.commands.arguments import (
    WHICH_MODEL,
    add_model_options,
    find_device,
)
from tessera.commands.bench import map_speed
from tessera.commands.named_configs import config_names
from tessera.setting_errors import Problem, noted, or_none, problems_of, whole
from tessera.training.run_folder import find_checkpoint
from tessera.vocabulary import check_board_size

_CONFIGS = ("tessera", "board_19x19")
_ALLOWED = {"moves": whole(1, 100_000), "threads": or_none(whole(1, 1_024))}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let everything be said that can be chosen."""
    add = parser.add_argument
    add("--ckpt_path", metavar="FILE", help=WHICH_MODEL)
    add("--run_name", default="quickstart", help="whose newest run that is (default: quickstart)")
    what = "instead, models of these configurations with new weights, which take as long"
    what += f" (default: {' '.join(_CONFIGS)})"
    add("--config", metavar="NAME", nargs="+", help=what)
    add_model_options(parser)
    add("--moves", type=int, default=400, help="moves of each row (default: 400)")
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    add("--threads", type=int, help="CPU cores and threads (default: 1)")
    add(
        "--json",
        metavar="FILE",
        help="also write the figures to this file; - prints that alone, every time measured",
    )


def checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    found: list[Problem] = []
    if arguments.board_size is not None:
        with noted(found):
            check_board_size("board_size", arguments.board_size)
    found += problems_of(arguments, _ALLOWED)
    problems = [f"--{problem}" for problem in found]
    if arguments.ckpt_path is not None and arguments.config is not None:
        problems.append("--config must be left out with --ckpt_path: it has a model.")
    if arguments.ckpt_path == "":
        problems.append("--ckpt_path must name the model, or be last; got none.")
    names = config_names()
    for name in arguments.config or ():
        if name not in names:
            problems.append(f"--config must be one of {', '.join(names)}, got {name}.")
    return find_device(arguments, parser, problems)


def measure(arguments: argparse.Namespace, device: torch.device) -> map_speed.MapReport:
    """Time what was asked for.

    Raises:
        CheckpointError: if the checkpoint cannot be used.
        SettingError: if it is of another board, or the run's name is none.
    """
    size = arguments.board_size
    if arguments.ckpt_path is None:
        subjects = map_speed.of_configs(arguments.config or _CONFIGS, size, device)
    else:
        path = find_checkpoint(arguments.ckpt_path, arguments.run_name)
        subjects = map_speed.of_checkpoint(path, size, arguments.own, device)
    return map_speed.measure(subjects, arguments.moves, arguments.threads or 1)
