"""``tessera scaling fit``: the fits to runs that there are, without training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tessera.commands import json_file
from tessera.commands.arguments import OneLineParser
from tessera.commands.ending import say
from tessera.commands.json_file import json_problems
from tessera.commands.output_file import same_file_problems, write_file
from tessera.commands.picture_file import picture_file, picture_problems
from tessera.commands.scaling.chart import scaling_chart
from tessera.commands.scaling.fits import Fits, as_json, fit_row, floor_problems
from tessera.commands.scaling.laws import FREE, KNOWN
from tessera.commands.scaling.report import report
from tessera.commands.scaling.runs_file import RunsError, read_rows

_MOST_REPLICATES = 10_000
_MOST_SEED = 2**32 - 1


def main(argv: Sequence[str]) -> int:
    """Run ``tessera scaling fit`` with these arguments.

    Returns:
        0; 2 for a mistake in what was asked for.
    """
    parser = OneLineParser(
        prog="tessera scaling fit",
        description="Fit scaling laws to the runs of a runs.csv, which tessera scaling and tessera "
        "compare write: the design's line through logarithms, and loss = L∞ + A/N^α + B/D^β above "
        "floors that are graded against the known one. Nothing is trained.",
        usage="tessera scaling fit RUNS.CSV [options]",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUNS.CSV", help="the file")
    choice = parser.add_argument
    choice("--row", action="append", default=[], metavar="ROW", help="only this row; repeatable")
    choice("--board_size", metavar="N", help="only runs on this board")
    choice("--player", metavar="NAME", help="only runs on this player's games")
    what = "the test games, where runs were tested on several kinds (default: %(default)s)"
    choice("--tested_on", default="same", metavar="NAME", help=what)
    add_fit_options(parser)
    arguments = parser.parse_args(argv)
    if problems := fit_problems(arguments):
        parser.error(" ".join(problems))
    try:
        rows = read_rows(
            arguments.runs,
            arguments.row,
            arguments.tested_on,
            board_size=arguments.board_size,
            player=arguments.player,
        )
        fits = [
            fit_row(row, floors_of(arguments), arguments.replicates, arguments.bootstrap_seed)
            for row in rows
        ]
    except RunsError as error:
        return say(str(error), 2)
    tell(fits, arguments)
    return 0


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """What both commands let be said of the fits."""
    choice = parser.add_argument
    what = "floors to fit above: known subtracts the exact one, free is fitted with the rest, a "
    what += f"number is in nats (default: {KNOWN} {FREE})"
    choice("--floor", nargs="+", default=[KNOWN, FREE], metavar="FLOOR", help=what)
    what = "resamplings of whole runs for the intervals; 0 for none (default: %(default)s)"
    choice("--replicates", type=int, default=300, metavar="COUNT", help=what)
    what = "of the resamplings (default: %(default)s)"
    choice("--bootstrap_seed", type=int, default=0, metavar="SEED", help=what)
    what = "a file for the picture of all fits; its name ends in .png or .svg; repeatable"
    choice("--picture", action="append", default=[], metavar="FILE", help=what)
    what = "also write all figures; - is standard output, alone"
    choice("--json", metavar="FILE", help=what)


def fit_problems(arguments: argparse.Namespace) -> list[str]:
    """What is wrong with what was said of the fits."""
    problems = floor_problems(arguments.floor)
    for name, most in (("replicates", _MOST_REPLICATES), ("bootstrap_seed", _MOST_SEED)):
        value = getattr(arguments, name)
        if not 0 <= value <= most:
            problems.append(f"--{name} must be 0 to {most:,}, got {value}.")
    for picture in arguments.picture:
        problems += picture_problems(picture, "--picture")
    problems += json_problems(arguments.json)
    pictures = [("--picture", name) for name in arguments.picture]
    read = ("RUNS.CSV", getattr(arguments, "runs", None))
    return problems + same_file_problems([read, *pictures, ("--json", arguments.json)])


def floors_of(arguments: argparse.Namespace) -> list[str]:
    """The floors, each once."""
    return list(dict.fromkeys(arguments.floor))


def tell(all_fits: Sequence[Fits], arguments: argparse.Namespace) -> None:
    """Print the report, and write the files that are asked for.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    content = {"rows": [as_json(fits) for fits in all_fits]}
    json_file.tell(report(all_fits).splitlines(), arguments.json, content)
    if arguments.picture:
        drawing = scaling_chart(all_fits)
        for name in arguments.picture:
            write_file(name, picture_file(drawing, name))
