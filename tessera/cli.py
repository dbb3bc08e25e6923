"""The front door: ``tessera COMMAND``. It loads only what the command needs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from tessera.commands.console import opened_console, waiting_for
from tessera.commands.ending import ended_by, in_words, is_first_process, say
from tessera.commands.one_line import one_line
from tessera.signals import Stopped, StopSignals

# Each command's module, with a main(argv), and what the command does.
_COMMANDS = {
    "fit": ("fit.command", "train a model"),
    "validate": ("fit.command", "measure a model on the validation games"),
    "test": ("fit.command", "measure a model on the test games"),
    "predict": ("fit.command", "write a model's distribution for every ply of given games"),
    "map": ("map.command", "show what a model expects next in a position, every legal move of it"),
    "gtp": ("gtp", "let a Go program such as Sabaki show a model's map, or play against it"),
    "board": ("board.command", "show a model's map in the browser, on a board to play on"),
    "games": ("games", "write games of the built-in players, or of a model, as SGF files"),
    "arena": ("arena.command", "play matches between models, built-in players and Go engines"),
    "export": ("export.command", "write a model alone, to pass it on: one file of safetensors"),
    "check": ("check.command", "measure the design's five criteria on this machine"),
    "compare": (
        "compare.command",
        "train models beside each other, or count what they have",
    ),
    "scaling": ("scaling.command", "measure how the loss falls with tokens, and fit laws to it"),
    "doctor": ("doctor", "say what this machine has, and what runs on it because of that"),
    "bench": (
        "bench.command",
        "measure the speed of the engine, of self-play, of training and of maps",
    ),
}
_ANSWERED = {"-h", "--help", "--print_config"}  # options that ask for no run
_LIGHTNING = "fit.command"  # of several commands, so it is given the command's name as well


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command with these arguments (those of the process if None).

    Returns:
        the exit code: 0; 1 for a run that failed, by the machine's fault too, with one line that
        says which; 2 for a mistake in what was asked for, with one line that says which; 130, 143
        or 129 for one that Ctrl-C, SIGTERM or SIGHUP ended; 141 if what it writes is not read any
        more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with opened_console(), StopSignals(ends_process=argv is None) as signals:
        try:
            code = _run(arguments)
            sys.stdout.flush()
            if signals.is_urgent and code < 128:  # nobody has said so yet
                raise Stopped(signals.received or 0)
        except BaseException as error:
            signals.is_held = True
            ended = ended_by(error)
            if ended is None:
                raise
            return ended
        return code


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from tessera.commands.packages import version_of

        print(f"tessera {version_of('tessera') or '(not installed)'}")
        return 0
    command = arguments[0]
    if command not in _COMMANDS:
        allowed = ", ".join(_COMMANDS)
        return say(one_line(f"the command must be one of {allowed}, got {command}."), 2)
    try:
        os.getcwd()
    except OSError as error:
        return say(f"the working folder cannot be used: {in_words(error)}.", 2)
    module = _COMMANDS[command][0]
    # Faults of a file are found before Lightning is loaded, which takes seconds.
    if module == _LIGHTNING:
        from tessera.commands.fit.config_file import config_problems
        from tessera.commands.light_metrics import load_metrics_lightly

        if problems := config_problems(arguments):
            return say("\n".join(problems), 2)
        options = {argument.partition("=")[0] for argument in arguments}
        if is_first_process() and not options & _ANSWERED:
            waiting_for("loading torch and Lightning")
        load_metrics_lightly()
    run = importlib.import_module(f"tessera.commands.{module}").main
    try:
        code: int = run(arguments if module == _LIGHTNING else arguments[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else say(end.code, 1) if end.code else 0
    return code


def _help() -> str:
    width = max(len(name) for name in _COMMANDS)
    commands = "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in _COMMANDS.items())
    return (
        f"usage: tessera COMMAND [options]\n\ncommands:\n{commands}\n\n"
        "tessera COMMAND --help lists a command's options.\n"
        "tessera --version says which version this is."
    )
