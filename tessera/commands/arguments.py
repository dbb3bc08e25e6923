"""What the commands that are not Lightning's share: a parser of few words, a device, a file."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tessera.commands.one_line import one_line

if TYPE_CHECKING:
    import torch


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and ends with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and end."""
        print(f"{self.prog}: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2)


def file_problems(file: Path | None) -> list[str]:
    """Why ``--json FILE`` cannot be written, if it cannot."""
    if file is None:
        return []
    try:
        is_there = file.exists()
        if not is_there and not file.parent.is_dir():
            return [f"--json: there is no folder {file.parent}."]
    except OSError as error:  # a name that is too long, a folder that cannot be looked into
        return [f"--json: {file}: {error.strerror}."]
    if file.is_dir() or not os.access(file if is_there else file.parent, os.W_OK):
        return [f"--json: {file} cannot be written."]
    return []


def write_json(file: Path | None, content: Any) -> None:
    """Write what ``--json FILE`` asks for, if it was given.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    if file is None:
        return
    try:
        file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        error.filename = str(file)  # a full disk does not say which file it is about
        raise


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
