"""What ``tessera bench memory`` found, as a person and as a program reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tessera.commands.bench.memory_count import Counted
from tessera.commands.bench.memory_process import Measured
from tessera.commands.bench.memory_rows import GROUPS, MemoryRow
from tessera.commands.table import Cell, Form, table

# Each group's tables are in the unit that what was published is in.
UNITS = {"sizes": ("GiB", 2**30), "lengths": ("GiB", 2**30), "muse": ("MiB", 2**20)}
_REASON_WIDTH = 50
_PARTS = ("weights", "gradients", "moments", "kept")


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """A row, and what is known of it.

    Attributes:
        row: what was run.
        counted: what it takes by counting.
        measured: what it took, None if it was not measured.
        missing: why not, empty if it was or nobody wanted it.
    """

    row: MemoryRow
    counted: Counted
    measured: Measured | None = None
    missing: str = ""

    def in_words(self) -> str:
        """Its figures in a few words."""
        name, unit = UNITS[self.row.group]
        counted = f"{self.counted.peak / unit:,.2f} {name} counted"
        if self.measured is None:
            return counted + (f", not measured: {self.missing}" if self.missing else "")
        peak, ms = self.measured.peak / unit, 1000 * self.measured.seconds
        return f"{peak:,.2f} {name} measured, {counted}; {ms:,.1f} ms"

    def cells(self, unit: int) -> list[Cell]:
        """The row of the table, the last cell the reason for a difference or a gap."""
        row, counted, measured = self.row, self.counted, self.measured
        cells: list[Cell] = [row.name, row.length, row.mode, counted.parameters]
        cells += [getattr(counted, part) / unit or None for part in _PARTS]
        cells.append(counted.peak / unit)
        if measured is None:
            cells += [None, None]
        else:
            cells += [measured.peak / unit, 1000 * measured.seconds]
        cells.append(None if row.published is None else row.published / unit)
        missing = f"not measured: {self.missing}" if self.missing else ""
        return [*cells, "; ".join(filter(None, (row.reason, missing)))]


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Everything one run of the command found.

    Attributes:
        machine: where it ran, in words.
        precision: of training.
        code: version of the program.
        results: of all rows.
        others: what is known of rows that nobody asked for.
    """

    machine: str
    precision: str
    code: str
    results: tuple[MemoryResult, ...]
    others: tuple[MemoryResult, ...] = ()

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        lines = [
            f"{self.machine}; training in {self.precision}, inference with weights of bfloat16"
        ]
        for group, what in GROUPS.items():
            found = [result for result in self.results if result.row.group == group]
            if not found:
                continue
            name, unit = UNITS[group]
            form = ",.2f" if name == "GiB" else ",.1f"
            columns: dict[str, Form] = {"model": None, "length": ",d", "run": None}
            columns |= {"parameters": ",d"}
            columns |= {part: form for part in _PARTS}
            columns |= {"peak, counted": form, "peak, measured": form, "ms": ",.1f"}
            columns |= {"published": form, "why they differ": _REASON_WIDTH}
            heading = f"{what[0].upper()}{what[1:]}, in {name}:"
            lines += ["", heading, *table([each.cells(unit) for each in found], columns)]
        return lines

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, in bytes and seconds."""
        rows = [
            {
                **result.row._asdict(),
                "model": result.row.model.as_dict(),
                "counted": asdict(result.counted),
                "measured": None if result.measured is None else asdict(result.measured),
                "missing": result.missing,
            }
            for result in (*self.results, *self.others)
        ]
        common = {"machine": self.machine, "precision": self.precision, "code": self.code}
        return {**common, "rows": rows}
