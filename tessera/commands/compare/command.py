"""``tessera compare``: what models are made of, counted, without training or memory for them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tessera.commands.arguments import OneLineParser
from tessera.commands.compare import report_command
from tessera.commands.console import waiting_for
from tessera.commands.ending import say
from tessera.commands.json_file import file_problems, json_text, write_json
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.named_configs import model_names
from tessera.commands.one_line import one_line
from tessera.commands.table import Cell, table
from tessera.vocabulary import MAX_CONTEXT

if TYPE_CHECKING:
    from tessera.commands.compare.count import Count
    from tessera.commands.compare.published import Published
    from tessera.commands.compare.rows import Row

_OF_FIT = ("--model.", "--data.")
_LONGEST = 2**20  # positions
_REPORT = "report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera compare`` with these arguments (those of the process if None).

    Returns:
        0; 2 for a mistake in what was asked for.
    """
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == [_REPORT]:
        return report_command.main(given[1:])
    parser = _parser()
    own, options = _parted(given)
    arguments = parser.parse_args(own)
    lengths = list(dict.fromkeys(arguments.count or [MAX_CONTEXT]))
    is_printed = arguments.json == "-"
    problems = [] if is_printed else file_problems(arguments.json)
    problems += [
        f"--count must be 1 to {_LONGEST:,} positions, got {length}."
        for length in lengths
        if not 1 <= length <= _LONGEST
    ]
    if problems:
        parser.error(" ".join(problems))
    waiting_for("loading torch and Lightning")
    load_metrics_lightly()
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    from tessera.commands.compare.count import count
    from tessera.commands.compare.published import MODELS, published
    from tessera.commands.compare.rows import read_rows
    from tessera.setting_errors import SettingError, under

    counts: list[tuple[Row, Count]] = []
    claims: list[Published] = []
    try:
        for row in read_rows(arguments.rows or model_names(), options):
            waiting_for(f"counting {row.name}")
            with under(f"{row.name}: model"):
                counts.append((row, count(row.model, lengths)))
        if not arguments.rows:
            claims = published({row.name: row.model for row in read_rows(MODELS, ())})
    except SettingError as error:
        waiting_for("")
        return say("\n".join(map(one_line, str(error).splitlines())), 2)
    waiting_for("")
    content: dict[str, Any] = {"rows": [_as_json(row, found) for row, found in counts]}
    if claims:
        content["published"] = [claim._asdict() for claim in claims]
    if is_printed:
        print(json_text(content), end="")
        return 0
    print("\n".join([*_lines(counts, lengths), *claims_in_lines(claims)]))
    write_json(arguments.json, content)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="tessera compare",
        description="Count what models are made of: parameters by part, the bytes that a game's "
        "state takes, and the FLOPs of a forward pass, as far as they are products. Nothing is "
        "trained, and no memory is taken for the weights. Without a row also what the sibling "
        "designs published of their sizes, beside the same models here.",
        epilog="Settings of the model and of the data, such as --model.d_model 128 or "
        "--data.board_size 9, hold for all rows; they are those of tessera fit.",
        usage="tessera compare [ROW …] [--count LENGTH …] [--model.SETTING VALUE …] [--json FILE]",
        allow_abbrev=False,
    )
    add = parser.add_argument
    rows = (
        f"a configuration, by its name or file, or several joined by +, of which the last wins, "
        f"such as transformer+uniform_9x9 (default: {', '.join(model_names())})"
    )
    add("rows", nargs="*", metavar="ROW", help=rows)
    what = f"positions of a game at which states and FLOPs are counted (default: {MAX_CONTEXT})"
    add("--count", nargs="*", type=int, metavar="LENGTH", help=what)
    add("--json", metavar="FILE", help="also write the figures; - is standard output, alone")
    return parser


def _parted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and the settings of ``tessera fit`` among them."""
    own: list[str] = []
    options: list[str] = []
    left = iter(argv)
    for argument in left:
        if argument.startswith(_OF_FIT):
            options += [argument, *([] if "=" in argument else islice(left, 1))]
        else:
            own.append(argument)
    return own, options


def _lines(counts: Sequence[tuple[Row, Count]], lengths: Sequence[int]) -> list[str]:
    parts = _parts(counts)
    columns: dict[str, Any] = {"row": None, "tokens": ",d", "d_model": ",d", "layers": "d"}
    columns |= {part.replace("_", "-"): ",d" for part in parts}
    columns |= {"parameters": ",d"}
    for length in lengths:
        columns |= {f"state at {length:,}": ",d", f"FLOPs/token at {length:,}": ",.0f"}
    rows: list[list[Cell]] = []
    for row, found in counts:
        model = row.model
        cells: list[Cell] = [row.name, model.vocab_size, model.d_model, model.n_layers]
        cells += [*(found.parameters.get(part) for part in parts), found.total]
        for length in lengths:
            cells += [found.state_bytes[length], found.flops_per_token[length]]
        rows.append(cells)
    return table(rows, columns)


def claims_in_lines(claims: Sequence[Published]) -> list[str]:
    """What was published, a table behind an empty line; none of nothing."""
    columns = {"published parameters of": None, "published": ",d", "counted": ",d"}
    rows = [(*claim, claim.difference) for claim in claims]
    return ["", *table(rows, {**columns, "difference": "+.1%"})] if claims else []


def _parts(counts: Sequence[tuple[Row, Count]]) -> list[str]:
    """Those parts that a row has, in the order of a model."""
    from tessera.commands.compare.count import PARTS

    return [part for part in PARTS if any(part in found.parameters for _, found in counts)]


def _as_json(row: Row, found: Count) -> dict[str, Any]:
    return {
        "row": row.name,
        "model": row.model.as_dict(),
        "parameters": {**found.parameters, "total": found.total},
        "state_bytes": found.state_bytes,
        "flops_per_token": found.flops_per_token,
    }
