"""Tables as a person reads them: columns aligned, numbers to the right, the absent as absent."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence

ABSENT = "–"

Cell = str | float | None  # None is what was not measured
Form = str | int | None  # how numbers are written; the most letters in a line of words; words


def table(rows: Iterable[Sequence[Cell]], columns: Mapping[str, Form] | None = None) -> list[str]:
    """The lines of a table.

    Args:
        rows: a cell for each column; the last cell of a shorter row runs over the columns that it
            has nothing for.
        columns: by heading, from left to right, a number's form such as ``",.0f"`` where numbers
            end below each other; None for two columns of words without headings.
    """
    forms = (None, None) if columns is None else tuple(columns.values())
    written = [
        [_lines(cell, form) for cell, form in zip(row, forms, strict=False)]
        for row in (*([] if columns is None else [tuple(columns)]), *rows)
    ]
    widths = [0] * len(forms)
    for row in written:
        for nth, lines in enumerate(row if len(row) == len(forms) else row[:-1]):
            widths[nth] = max(widths[nth], *map(len, lines))
    sides = [">" if isinstance(form, str) else "<" for form in forms]
    return [
        "  ".join(map("{:{}{}}".format, parts, sides, widths)).rstrip()
        for row in written
        for parts in itertools.zip_longest(*row, fillvalue="")
    ]


def _lines(cell: Cell, form: Form) -> list[str]:
    """The lines of one cell, not yet as wide as the column."""
    if cell is None or isinstance(cell, str):
        text = ABSENT if cell is None else cell
        return (textwrap.wrap(text, form) or [""]) if isinstance(form, int) else [text]
    return [format(cell, form if isinstance(form, str) else "")]
