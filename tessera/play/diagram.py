"""A position that is drawn with letters, as GNU Go, KataGo and GTP's ``showboard`` print it."""

from __future__ import annotations

import re

from tessera.play.sgf_trees import shown
from tessera.vocabulary import check_board_size

_COLUMNS = "ABCDEFGHJKLMNOPQRST"
_STONES = {"X": 1, "O": -1}
# Points with blanks between them; brackets or numbers beside a stone tell of the last moves.
_ROW = re.compile(r"(?:\(?[XO.+]\)?|[XO][1-9]|\s)*")


def read_diagram(text: str) -> list[list[int]]:
    r"""The stones of a board: rows from the top, +1 black (X), -1 white (O), 0 empty (. or +).

    The names of columns and the numbers of rows may stand beside it, and anything above and below
    it. What stands behind a row's second number, such as captured stones, is not read.

    Raises:
        ValueError: if there is no square board of 2 to 19 lines in it, saying where and why.

    Example:
        >>> read_diagram("   A B\n 2 . X 2\n 1 O . 1\n   A B")
        [[0, 1], [-1, 0]]
    """
    rows: list[list[int]] = []
    numbers: list[int | None] = []
    other = 0  # the first line below the board that is none of its rows
    for at, line in enumerate(text.splitlines(), 1):
        number, points = _row(line)
        if points is None:
            other = other or (at if rows and line.strip() and not _is_header(line) else 0)
        elif other:
            bad = shown(text.splitlines()[other - 1].strip().encode())
            raise ValueError(f"line {other}: {bad} is no row of a board.")
        else:
            rows.append(points)
            numbers.append(number)
            if len(points) != len(rows[0]):
                raise ValueError(
                    f"line {at}: a row must have {len(rows[0])} points as the first has, "
                    f"got {len(points)}."
                )
    if not rows:
        raise ValueError("there is no board in it; a row is of X, O and . with blanks between.")
    size = check_board_size("the board's size", len(rows[0]))
    if len(rows) != size:
        raise ValueError(f"the board must be square, got {len(rows)} rows of {size} points.")
    wanted = [size - row for row in range(size)]
    if any(number not in (None, want) for number, want in zip(numbers, wanted, strict=True)):
        raise ValueError(f"the rows must be numbered {size} to 1 from the top.")
    return rows


def _row(line: str) -> tuple[int | None, list[int] | None]:
    """A row's number and its points; no points if the line is no row."""
    match = re.match(r"\s*=?\s*(?:(\d{1,2})(?=[\s(]))?(.*)", line)
    number, rest = (match[1], match[2]) if match else (None, line)
    if number is not None:
        rest = re.split(rf"(?<=[\s)]){number}(?!\d)", rest, maxsplit=1)[0]
    points = re.findall(r"[XO.+]", rest) if _ROW.fullmatch(rest) else []
    found = [_STONES.get(point, 0) for point in points]
    return None if number is None else int(number), found or None


def _is_header(line: str) -> bool:
    """Whether a line names the columns."""
    letters = "".join(line.split())
    return bool(letters) and _COLUMNS.startswith(letters)
