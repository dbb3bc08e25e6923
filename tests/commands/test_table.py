"""Every table of the commands: what is below what, and what an absent value looks like."""

from __future__ import annotations

import pytest

from tessera.commands.table import Column, table


def test_words_begin_and_numbers_end_below_each_other() -> None:
    columns = (Column("who"), Column("rate", ",.1f"), Column("note", width=9))
    rows = [("a", 1234.56, "long words go on"), ("bcde", 0, ""), ("f", None, None)]
    assert table(columns, rows) == [
        "who      rate  note",
        "a     1,234.6  long",
        "               words go",
        "               on",
        "bcde      0.0",
        "f           –  –",
    ]


def test_a_column_of_numbers_takes_words_that_end_below_them() -> None:
    assert table((Column("n", "d"), Column("x")), [("one run", "y"), (3, "z")]) == [
        "      n  x",
        "one run  y",
        "      3  z",
    ]


def test_a_shorter_row_runs_over_the_columns_that_it_has_nothing_for() -> None:
    columns = (Column("name"), Column("a", "d"), Column("b", "d"))
    assert table(columns, [("x", 1, 2), ("a rival", "not installed here")])[1:] == [
        "x        1  2",
        "a rival  not installed here",
    ]


@pytest.mark.parametrize("rows", [[], [("a", "b")]])
def test_without_headings_there_is_no_line_for_them(rows: list[tuple[str, str]]) -> None:
    assert table((Column(), Column()), rows) == [f"{a}  {b}" for a, b in rows]
