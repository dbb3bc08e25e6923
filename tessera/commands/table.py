"""Tables as a person reads them: columns aligned, numbers to the right, the absent as absent."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ABSENT = "–"

Cell = str | float | None  # None is what was not measured


@dataclass(frozen=True, slots=True)
class Column:
    """How a column looks.

    Attributes:
        head: its heading; a table whose headings are all empty has no line for them.
        form: how its numbers are written, such as ``",.0f"``, and that they end on the right; None
            for a column of words.
        width: the most letters in a line; longer words go on in the next one.
    """

    head: str = ""
    form: str | None = None
    width: int | None = None

    def lines(self, cell: Cell) -> list[str]:
        """The lines of one cell, not padded."""
        if cell is None:
            return [ABSENT]
        text = cell if isinstance(cell, str) else format(cell, self.form or "")
        return [text] if self.width is None else textwrap.wrap(text, self.width)

    def padded(self, line: str, width: int) -> str:
        """A line of a cell as wide as the column."""
        return f"{line:{'<' if self.form is None else '>'}{width}}"


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """The lines of a table.

    Args:
        columns: from left to right.
        rows: a cell for each column; the last cell of a shorter row runs over the columns that it
            has nothing for.
    """
    heads = [column.head for column in columns]
    written = [
        [column.lines(cell) for column, cell in zip(columns, row, strict=False)]
        for row in (*([heads] if any(heads) else []), *rows)
    ]
    widths = [0] * len(columns)
    for row in written:
        for nth, cell in enumerate(row if len(row) == len(columns) else row[:-1]):
            widths[nth] = max(widths[nth], *map(len, cell), 0)
    return [
        "  ".join(map(Column.padded, columns, parts, widths)).rstrip()
        for row in written
        for parts in itertools.zip_longest(*row, fillvalue="")
    ]
