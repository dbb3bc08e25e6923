"""``tessera compare``: models trained beside each other, or only counted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tessera.commands.arguments import parted
from tessera.commands.compare import report_command
from tessera.commands.compare.options import OF_FIT, Options, options_of
from tessera.commands.compare.options import parser as new_parser
from tessera.commands.console import waiting_for
from tessera.commands.ending import say
from tessera.commands.json_file import json_problems
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.setting_errors import SettingError
from tessera.vocabulary import MAX_CONTEXT

_LONGEST = 2**20  # positions
_REPORT = "report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera compare`` with these arguments (those of the process if None).

    Returns:
        0; 1 if a row could not be trained; 2 for a mistake in what was asked for.
    """
    typed = sys.argv[1:] if argv is None else argv
    if typed[:1] == [_REPORT]:
        return report_command.main(typed[1:])
    parser = new_parser()
    own, fit = parted(typed, OF_FIT)
    arguments = parser.parse_args(own)
    given = (arguments.rows, arguments.config, arguments.mixers)
    is_nothing = not any((*given, arguments.tokens, arguments.seconds, arguments.is_dry))
    if arguments.count is not None or is_nothing:
        return _count(arguments, fit, parser)
    options, problems = options_of(arguments, fit)
    problems += json_problems(arguments.json)
    if problems or options is None:
        parser.error(" ".join(problems))
    return _compare(options)


def _count(arguments: argparse.Namespace, fit: list[str], parser: argparse.ArgumentParser) -> int:
    lengths = list(dict.fromkeys(arguments.count or [MAX_CONTEXT]))
    problems = json_problems(arguments.json)
    problems += [
        f"--count must be 1 to {_LONGEST:,} positions, got {length}."
        for length in lengths
        if not 1 <= length <= _LONGEST
    ]
    if problems:
        parser.error(" ".join(problems))
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    _load()
    from tessera.commands.compare.counting import print_counts

    try:
        print_counts(arguments, fit, lengths)
    except SettingError as error:
        return _refused(error)
    return 0


def _compare(options: Options) -> int:
    _load()
    from tessera.commands.compare.comparing import compare

    try:
        return compare(options)
    except SettingError as error:
        return _refused(error)


def _load() -> None:
    waiting_for("loading torch and Lightning")
    load_metrics_lightly()


def _refused(error: SettingError) -> int:
    waiting_for("")
    return say("\n".join(map(one_line, str(error).splitlines())), 2)
