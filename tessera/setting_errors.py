"""Settings that are refused: which, their values and what is allowed, kept apart until it is said.

A room names a setting as its own callers know it. Whoever reads settings of several sections, as
the command line does, puts each problem under its section, once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

# Raises SettingError, calling the value by the name, unless it is allowed.
Check = Callable[[str, Any], object]
Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Problem:
    """One setting that is refused; its ``str()`` is a line."""

    name: str
    value: Any  # as it is to be read
    must: str  # what is allowed, such as "be at least 1"
    other: str = ""  # the setting beside it that is named there
    form: str = "{name} must {must}, got {value}."
    section: str = ""  # what all names in the line begin with

    def __str__(self) -> str:
        name, must = self.section + self.name, self.must
        if self.other:
            must = must.replace(self.other, self.section + self.other)
        return self.form.format(name=name, must=must, value=self.value)


class SettingError(ValueError):
    """Settings that are refused; its ``args`` are the problems, its ``str()`` a line for each.

    The command line, which refuses more than settings, adds lines of its own.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


@contextmanager
def under(section: str) -> Iterator[None]:
    """Put whatever is refused within it under a section."""
    try:
        yield
    except SettingError as error:
        problems = (replace(x, section=f"{section}.{x.section}") for x in error.args)
        raise SettingError(*problems) from error


@contextmanager
def noted(problems: list[Problem]) -> Iterator[None]:
    """Add whatever is refused within it to the problems, and go on behind it."""
    try:
        yield
    except SettingError as error:
        problems += error.args


def problems_of(record: object, checks: Mapping[str, Check]) -> list[Problem]:
    """What is wrong with those attributes of a record that have a check; one it lacks is None."""
    problems: list[Problem] = []
    for name, check in checks.items():
        with noted(problems):
            check(name, getattr(record, name, None))
    return problems


def described(value: Any) -> str:
    """A value in a message, in one line: of a tensor its shape and dtype."""
    if hasattr(value, "layout"):  # a tensor; torch need not be there to be asked
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    return repr(value) if is_plain else type(value).__name__


def as_int(value: Any) -> int | None:
    """A whole number of any type, numpy's too, as an int; None for bools and everything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """The value as an int, if it is in the range; numpy's are taken, bools and 2.0 are not."""
    number = as_int(value)
    if number is None:
        raise SettingError(Problem(name, described(value), "be a whole number"))
    if least is not None and number < least:
        raise SettingError(Problem(name, number, f"be at least {least}"))
    if most is not None and number > most:
        raise SettingError(Problem(name, number, f"be at most {most}"))
    return number


def whole(least: int | None = None, most: int | None = None) -> Check:
    """Allows whole numbers from ``least`` to ``most``."""
    return lambda name, value: whole_number(name, value, least, most)


def number(allowed: str, is_in_range: Test) -> Check:
    """Allows numbers in a range, which is ``allowed`` in words; bools are none."""
    kinds = (int, float)
    return fits(allowed, lambda x: isinstance(x, kinds) and type(x) is not bool and is_in_range(x))


def one_of(*names: str, words: str = "one of {}") -> Check:
    """Allows these names."""
    return fits(words.format(", ".join(names)), lambda x: isinstance(x, str) and x in names, str)


def or_none(check: Check) -> Check:
    """Allows None, and what the other check does."""
    return lambda name, value: None if value is None else check(name, value)


def fits(allowed: str, is_fine: Test, shown: Callable[[Any], str] = described) -> Check:
    """Allows what ``is_fine`` says, which is ``allowed`` in words; ``shown`` is a wrong value."""

    def check(name: str, value: Any) -> None:
        if not is_fine(value):
            raise SettingError(Problem(name, shown(value), f"be {allowed}"))

    return check
