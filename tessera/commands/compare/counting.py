"""What ``tessera compare --count`` prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tessera.commands.compare.count import PARTS, Count, count
from tessera.commands.compare.options import ALIASES
from tessera.commands.compare.published import MODELS, Published, published
from tessera.commands.compare.rows import Row, read_rows
from tessera.commands.console import waiting_for
from tessera.commands.json_file import tell
from tessera.commands.named_configs import model_names
from tessera.commands.table import Cell, table
from tessera.setting_errors import under


def print_counts(
    arguments: argparse.Namespace, options: Sequence[str], lengths: Sequence[int]
) -> None:
    """Count, print, and write the file if one is asked for.

    Args:
        arguments: of the command; without rows, configurations and mixers all models that come
            with the program are counted, and what is published of them.
        options: of ``tessera fit``, for each of the rows.
        lengths: positions of a game at which states and FLOPs are counted.

    Raises:
        SettingError: with a problem for everything that is wrong in a row.
    """
    named = (name.strip() for name in (arguments.mixers or "").split(","))
    mixers = [ALIASES.get(name, name) for name in named if name]
    is_given = bool(arguments.rows or arguments.config or mixers)
    names = arguments.rows if is_given else model_names()
    json = arguments.json
    counts: list[tuple[Row, Count]] = []
    claims: list[Published] = []
    for row in read_rows(names, options, arguments.config, mixers):
        waiting_for(f"counting {row.name}")
        with under(f"{row.name}: model"):
            counts.append((row, count(row.model, lengths)))
    if not is_given:
        claims = published({row.name: row.model for row in read_rows(MODELS, ())})
    waiting_for("")
    content: dict[str, Any] = {"rows": [_as_json(row, found) for row, found in counts]}
    if claims:
        content["published"] = [claim._asdict() for claim in claims]
    tell([*_lines(counts, lengths), *claims_in_lines(claims)], json, content)


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
    return [part for part in PARTS if any(part in found.parameters for _, found in counts)]


def _as_json(row: Row, found: Count) -> dict[str, Any]:
    return {
        "row": row.name,
        "model": row.model.as_dict(),
        "parameters": {**found.parameters, "total": found.total},
        "state_bytes": found.state_bytes,
        "flops_per_token": found.flops_per_token,
    }
