"""The configurations that come with the program, found by name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import tessera

# In the repository a link to the folder configs/; an installed package holds the files themselves.
_FOLDER = Path(tessera.__file__).parent / "configs"
_MODELS = "models"


def config_names() -> list[str]:
    """The configurations of whole runs, in alphabetical order."""
    return _names(_FOLDER)


def model_names() -> list[str]:
    """Those of a model alone, for in front of another configuration, in alphabetical order."""
    return _names(_FOLDER / _MODELS)


def names_in_words() -> str:
    """What ``--config`` takes beside files."""
    return f"{', '.join(config_names())}, or a model that tessera compare lists"


def config_file(value: str) -> str:
    """The file that a value of ``--config`` means; the value itself unless it is only a name."""
    if os.path.isfile(value):
        return value
    if value in config_names():
        return str(_FOLDER / f"{value}.yaml")
    return str(_FOLDER / _MODELS / f"{value}.yaml") if value in model_names() else value


def _names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def with_config_files(argv: Sequence[str]) -> list[str]:
    """The arguments of a command, with its file in the place of each configuration's name."""
    arguments = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if before in ("--config", "-c"):
            argument = config_file(argument)
        elif attached := re.fullmatch(r"(--config=|-c=?)(.+)", argument, re.DOTALL):
            argument = attached[1] + config_file(attached[2])
        arguments.append(argument)
    return arguments
