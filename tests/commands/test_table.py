"""Every table of the commands: what is below what, and what an absent value looks like."""

from __future__ import annotations

import pytest

from tessera.commands.table import table


def test_words_begin_and_numbers_end_below_each_other() -> None:
    columns = {"who": None, "rate": ",.1f", "note": 9}
    rows = [("a", 1234.56, "long words go on"), ("bcde", 0, ""), ("f", None, None)]
    assert table(rows, columns) == [
        "who      rate  note",
        "a     1,234.6  long",
        "               words go",
        "               on",
        "bcde      0.0",
        "f           –  –",
    ]


def test_a_column_of_numbers_takes_words_that_end_below_them() -> None:
    assert table([("one run", "y"), (3, "z")], {"n": "d", "x": None}) == [
        "      n  x",
        "one run  y",
        "      3  z",
    ]


def test_a_shorter_row_runs_over_the_columns_that_it_has_nothing_for() -> None:
    rows = [("x", 1, 2), ("a rival", "not installed here")]
    assert table(rows, {"name": None, "a": "d", "b": "d"})[1:] == [
        "x        1  2",
        "a rival  not installed here",
    ]


@pytest.mark.parametrize("rows", [[], [("a", "b")]])
def test_without_headings_there_is_no_line_for_them(rows: list[tuple[str, str]]) -> None:
    assert table(rows) == [f"{a}  {b}" for a, b in rows]
