"""``tessera compare report FOLDER``: tables and pictures of a comparison that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tessera.commands.arguments import OneLineParser
from tessera.commands.compare.report import write_report
from tessera.commands.ending import say
from tessera.commands.one_line import one_line
from tessera.setting_errors import SettingError


def main(argv: Sequence[str]) -> int:
    """Run the command with these arguments, those behind ``report``.

    Returns:
        0; 2 if the folder is none of ``tessera compare``, or is broken.
    """
    arguments = _parser().parse_args(argv)
    try:
        print(write_report(Path(arguments.folder)))
    except SettingError as error:
        return say("\n".join(map(one_line, str(error).splitlines())), 2)
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="tessera compare report",
        description="Write tables and pictures of a comparison, as far as its runs are done, "
        "without training: report.md, excess over compute, state, seconds, learning rate and "
        "captured stones as SVG and PNG, and TensorBoard's HParams page. The tables are printed "
        "too. What is there is replaced.",
        allow_abbrev=False,
    )
    what = "what tessera compare has written into, lightning_logs/compare/NAME if it was not told"
    parser.add_argument("folder", metavar="FOLDER", help=what)
    return parser
