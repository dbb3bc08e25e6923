"""``tessera scaling``: a ladder of token budgets, and the laws that it obeys."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tessera.commands.arguments import parted
from tessera.commands.console import waiting_for
from tessera.commands.ending import say
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.commands.scaling import fit_command
from tessera.commands.scaling.options import OF_FIT, options_of
from tessera.commands.scaling.options import parser as new_parser
from tessera.setting_errors import SettingError


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera scaling`` with these arguments (those of the process if None).

    Returns:
        0; 1 if a rung could not be trained, or the machine is at fault; 2 for a mistake in what
        was asked for; 130, 143 or 129 after a signal.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["fit"]:
        return fit_command.main(given[1:])
    parser = new_parser()
    own, fit = parted(given, OF_FIT)
    arguments = parser.parse_args(own)
    options, problems = options_of(arguments, fit)
    problems += fit_command.fit_problems(arguments)
    if problems:
        parser.error(" ".join(problems))
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    waiting_for("loading torch and Lightning")
    load_metrics_lightly()
    from tessera.commands.scaling.whole import scale

    try:
        return scale(options, arguments)
    except SettingError as error:
        waiting_for("")
        return say("\n".join(map(one_line, str(error).splitlines())), 2)
