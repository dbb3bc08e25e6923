"""What the commands that are not Lightning's share: a parser of few words, and a device."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from tessera.commands.json_file import json_problems
from tessera.commands.one_line import one_line

if TYPE_CHECKING:
    import torch

WHICH_MODEL = (
    "the model: a file; last, the newest run's; or player_9x9, which is there from the start"
)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and ends with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and end."""
        print(f"{self.prog}: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Let it be said what a checkpoint alone does not decide, see ``tessera.companion.load``."""
    what = "of a model of any board; the size that others were trained on is theirs"
    parser.add_argument("--board_size", type=int, metavar="N", help=what)
    add_own_option(parser)


def add_own_option(parser: argparse.ArgumentParser) -> None:
    """Let classes be named that a checkpoint may have as parts."""
    what = "a part of your own that the checkpoint names, such as my_package.MyMixer; repeatable"
    parser.add_argument("--own", action="append", default=[], metavar="CLASS", help=what)


def find_device(
    arguments: argparse.Namespace, parser: argparse.ArgumentParser, problems: list[str]
) -> torch.device:
    """The device of ``--device``; ends if there is no such, or anything else is wrong.

    Args:
        arguments: parsed, ``device`` and ``json`` among them.
        parser: says all problems in one line.
        problems: what was found of the other arguments.
    """
    name = arguments.device
    problems = problems + json_problems(arguments.json)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        problems.append(f"--device must be auto, cpu or cuda, got {name}.")
    if problems:
        parser.error(" ".join(problems))
    # Here, so that a wrong argument is found before torch is loaded.
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available():
            parser.error("--device: torch finds no CUDA device here; use cpu.")
        if device.index is not None and device.index >= count:
            parser.error(f"--device: torch finds {count} CUDA devices here, got {name}.")
        if device.index:  # what names no device is for the current one
            torch.cuda.set_device(device)
    return device


def parted(argv: Sequence[str], of_fit: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and the settings of ``tessera fit`` among them.

    Args:
        argv: what was typed.
        of_fit: what those settings begin with.
    """
    own: list[str] = []
    options: list[str] = []
    left = iter(argv)
    for argument in left:
        if argument.startswith(of_fit):
            options += [argument, *([] if "=" in argument else islice(left, 1))]
        else:
            own.append(argument)
    return own, options


def finite_number(text: str) -> float | None:
    """The number that was typed; None if it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def run_or_file(target: str, run_name: str, root: str = "") -> tuple[str, str]:
    """``ckpt_path`` and ``run_name`` of a model that is named by a file, ``last`` or its run.

    Raises:
        CheckpointError: if a name that looks like a run's is neither.
    """
    from tessera.training.checkpoint_file import CheckpointError
    from tessera.training.run_folder import given_names

    folder = os.path.normpath(os.path.join(root, "checkpoints", target))
    if os.path.exists(target) or target in ("last", *given_names()):
        return target, run_name
    if os.path.isdir(folder):
        return "last", target
    if re.fullmatch(r"[\w-]+", target):
        told = f"there is no such file, and no folder {folder} of a run"
        raise CheckpointError(f"{target} is no checkpoint: {told}.")
    return target, run_name
