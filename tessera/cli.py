"""The front door: ``tessera COMMAND``. It loads only what the command needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

from tessera.commands.config_file import config_problems
from tessera.commands.one_line import one_line

# Each command's module, with a main(argv), and what the command does.
_COMMANDS = {
    "fit": ("train", "train a model"),
    "validate": ("train", "measure a model on the validation games"),
    "test": ("train", "measure a model on the test games"),
    "predict": ("train", "write a model's distribution for every ply of given games"),
    "check": ("check", "measure the design's five criteria on this machine"),
    "doctor": ("doctor", "say what this machine has, and what runs on it because of that"),
    "bench": ("bench", "measure the speed of the engine, of self-play and of training"),
}
_LIGHTNING = "train"  # the module of several commands, so it is given the command's name as well


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command with these arguments (those of the process if None).

    Returns:
        the exit code: 0; 1 for a run that failed; 2 for a mistake in what was asked for, with one
        line that says which; 130 or 143 for a run that Ctrl-C or SIGTERM ended.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"tessera {_version()}")
        return 0
    command = arguments[0]
    if command not in _COMMANDS:
        allowed = ", ".join(_COMMANDS)
        problem = one_line(f"the command must be one of {allowed}, got {command}.")
        print(f"tessera: {problem}", file=sys.stderr)
        return 2
    module = _COMMANDS[command][0]
    # Faults of a file are found before Lightning is loaded, which takes seconds.
    problems = config_problems(arguments) if module == _LIGHTNING else []
    if problems:
        print(*(f"tessera: {problem}" for problem in problems), sep="\n", file=sys.stderr)
        return 2
    try:
        run = importlib.import_module(f"tessera.commands.{module}").main
        return run(arguments if module == _LIGHTNING else arguments[1:])
    except KeyboardInterrupt:
        return 130


def _help() -> str:
    width = max(len(name) for name in _COMMANDS)
    commands = "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in _COMMANDS.items())
    return (
        f"usage: tessera COMMAND [options]\n\ncommands:\n{commands}\n\n"
        "tessera COMMAND --help lists a command's options.\n"
        "tessera --version says which version this is."
    )


def _version() -> str:
    try:
        return metadata.version("tessera")
    except metadata.PackageNotFoundError:
        return "(not installed)"
