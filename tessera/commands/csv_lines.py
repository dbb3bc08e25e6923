"""The lines of a table in a CSV file, each with as many cells as there are columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence


def csv_lines(
    text: str, needed: Sequence[str], lacking: Callable[[list[str]], str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line with its number in the file, as its cells by their columns.

    Args:
        text: of the file.
        needed: columns that it must have.
        lacking: what is said of those that it lacks, behind the file's name.

    Raises:
        ValueError: in words, without the file's name, for a column that is missing or a line that
            is cut off.
    """
    # As lines end in files: a cell may hold what else str.splitlines takes for an end.
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = reader.fieldnames or ()
        if missing := [name for name in needed if name not in columns]:
            raise ValueError(f" {lacking(missing)}")
        for line in reader:
            if None in line:
                raise ValueError(f", line {reader.line_num}: more cells than columns.")
            if None in line.values():
                raise ValueError(f", line {reader.line_num}: fewer cells than columns.")
            yield reader.line_num, line
    except csv.Error as error:
        raise ValueError(f", line {reader.line_num}: {error}.") from error
