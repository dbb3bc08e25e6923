"""What the commands that are not Lightning's share: a parser of few words, and a device."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, NoReturn

from tessera.commands.one_line import one_line

if TYPE_CHECKING:
    import torch


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and ends with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and end."""
        print(f"{self.prog}: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2)


def device_problems(name: str) -> list[str]:
    """What is wrong with the word given to ``--device``, found without loading torch."""
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        return []
    return [f"--device must be auto, cpu or cuda, got {name}."]


def find_device(name: str, parser: argparse.ArgumentParser) -> torch.device:
    """The device of that name, once ``device_problems`` found none; ends if it is not there."""
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
    return device
