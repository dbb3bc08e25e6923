"""What ``tessera bench memory --json FILE`` has measured so far, and goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tessera.commands.bench.memory_count import Counted
from tessera.commands.bench.memory_process import Measured
from tessera.commands.bench.memory_report import MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import GROUPS, MODES, MemoryRow
from tessera.commands.code_version import code_version
from tessera.commands.json_file import write_json
from tessera.model import ModelSettings

# What the figures follow from beside the model's own rooms.
_CODE = tuple(
    f"tessera.commands.bench.{name}.*" for name in ("memory_run", "memory_count", "memory_process")
)
# What rows of one file have in common, as a report has it and as a person calls it.
_COMMON = {"machine": "on another machine", "precision": "in another precision"}
_COMMON["code"] = "with another version of the program"


def this_code() -> str:
    """The version of the program, as far as rows follow from it."""
    return code_version(_CODE)


def read(name: str) -> MemoryReport:
    """What the file holds.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it was not written by this command.
    """
    with open(name, encoding="utf-8") as file:
        found = json.load(file)
    try:
        common = {key: found[key] for key in _COMMON}
        if not all(isinstance(value, str) for value in common.values()):
            raise ValueError("other values")
        return MemoryReport(**common, results=tuple(map(_result, found["rows"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("other keys") from error


def _result(row: Mapping[str, Any]) -> MemoryResult:
    values = {**row, "model": ModelSettings(**row["model"])}
    counted, measured, missing = (values.pop(key) for key in ("counted", "measured", "missing"))
    found = MemoryRow(**values)
    if found.group not in GROUPS or found.mode not in MODES or not isinstance(missing, str):
        raise ValueError("another row")
    numbers = Measured(**measured) if measured is not None else None
    return MemoryResult(found, Counted(**counted), numbers, missing)


def unlike(one: MemoryReport, other: MemoryReport) -> str:
    """How rows of the one were measured otherwise than those of the other, empty if alike."""
    differing = (said for key, said in _COMMON.items() if getattr(one, key) != getattr(other, key))
    return " and ".join(differing)


def report_problems(names: Sequence[str]) -> list[str]:
    """Why these files cannot be shown as one report; the first two that do not go together."""
    reports = list[MemoryReport]()
    for name in names:
        try:
            reports.append(read(name))
        except OSError as error:
            return [f"--report: {name}: {error.strerror}."]
        except ValueError:
            return [f"--report must name files of tessera bench memory --json, got {name}."]
        if otherwise := unlike(reports[-1], reports[0]):
            return [f"--report: {name} was measured {otherwise} than {names[0]}."]
    return []


def whole_report(names: Sequence[str]) -> MemoryReport:
    """What all files hold; of a row that several have, the last one that was measured.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if one was not written by this command.
    """
    reports = [read(name) for name in names]
    found = {}
    for result in (each for report in reports for each in report.results):
        key = _key(result.row)
        if key not in found or result.measured is not None:
            found[key] = result
    return replace(reports[0], results=tuple(found.values()))


class MemoryFile:
    """The file, which is written anew after every row.

    Args:
        name: of the file, None if nothing is to be written.
        report: of this run, without any rows yet.

    Attributes:
        report: of what is there.
        note: what is said of the file that was found, empty if there was none.
    """

    def __init__(self, name: str | None, report: MemoryReport) -> None:
        self._name = name
        self.report, self.note = report, ""
        if name is None:
            return
        try:
            there = read(name)
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            self.note = f"{name} holds no rows of this command, and is replaced."
            return
        if otherwise := unlike(there, report):
            self.note = f"{name} was measured {otherwise}: all rows are measured again."
            return
        self.report = there
        self.note = f"going on with {name}."

    def found(self, row: MemoryRow, is_measured: bool) -> MemoryResult | None:
        """What the file holds of the row; None if that is not all that is wanted.

        Args:
            row: which.
            is_measured: whether counting it is not enough.
        """
        for result in self.report.results:
            if _key(result.row) == _key(row) and (result.measured or not is_measured):
                return result
        return None

    def others(self, rows: Iterable[MemoryRow]) -> tuple[MemoryResult, ...]:
        """What it holds of other rows than these."""
        asked = set(map(_key, rows))
        return tuple(each for each in self.report.results if _key(each.row) not in asked)

    def add(self, result: MemoryResult) -> None:
        """Write the file with this row too, in place of one of the same run.

        Raises:
            OSError: naming the file, if it cannot be written.
        """
        others = [each for each in self.report.results if _key(each.row) != _key(result.row)]
        self.report = replace(self.report, results=(*others, result))
        write_json(self._name, self.report.as_json())


def _key(row: MemoryRow) -> str:
    """The same for rows that are the same, read from a file or not."""
    return json.dumps({**row._asdict(), "model": row.model.as_dict()})
