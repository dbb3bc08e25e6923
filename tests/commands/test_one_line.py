"""What was typed is said again in one line, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.commands.one_line import one_line
from tests.runs import tessera


@given(st.text(st.characters(exclude_categories=()), max_size=900))
def test_a_line_can_be_printed_and_ends_as_the_message_does(message: str) -> None:
    line = one_line(message)
    assert line.isprintable() and line.encode().decode() == line
    assert len(message) > 400 or not message.isprintable() or line == message


def test_the_middle_of_a_long_message_is_left_out() -> None:
    assert one_line(f"begin {'x' * 10**6} end") == f"begin {'x' * 314} … {'x' * 76} end"


@pytest.mark.parametrize(
    ("arguments", "end"),
    [(["fi\nt"], r"got fi\nt."), (["bench", "engine", "--device", "\x1b[2J"], r"got \x1b[2J.")],
)
def test_commands_that_are_not_lightnings_say_it_in_one_line_as_well(
    capsys: pytest.CaptureFixture, arguments: list[str], end: str
) -> None:
    assert tessera(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(end)
