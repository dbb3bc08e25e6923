"""What ``tessera bench memory`` has measured, as the tables of a page: published beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.commands.bench.memory_report import UNITS, MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import CHECKPOINTED, GROUPS, INFERENCE, TRAINING
from tessera.commands.table import ABSENT

Figure = Callable[[MemoryResult], float | None]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A group's rows, by the line of its table that they stand in and by their column's run."""

    group: str
    rows: dict[str, dict[str, MemoryResult]]

    @property
    def unit(self) -> tuple[str, int]:
        """Its name and its bytes."""
        return UNITS[self.group]

    def size(self, result: MemoryResult | None, of: Figure) -> str:
        """Bytes in the unit; absent where there are none."""
        num_bytes = None if result is None else of(result)
        if num_bytes is None:
            return ABSENT
        name, unit = self.unit
        return format(num_bytes / unit, ",.2f" if name == "GiB" else ",.1f")


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """The tables of a report in Markdown, a row for each model or length."""

    report: MemoryReport

    def lines(self) -> list[str]:
        """The page."""
        lines = [f"{self.report.machine}; training in {self.report.precision}."]
        for group, write in (("sizes", _sizes), ("lengths", _lengths), ("muse", _muse)):
            found = [result for result in self.report.results if result.row.group == group]
            if found:
                sheet = _sheet(group, found)
                what = GROUPS[group]
                lines += ["", f"{what[0].upper()}{what[1:]}, in {sheet.unit[0]}:", ""]
                lines += [*write(sheet), *_gaps(found)]
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same figures as plain values."""
        return self.report.as_json()


def _sheet(group: str, results: Sequence[MemoryResult]) -> _Sheet:
    rows: dict[str, dict[str, MemoryResult]] = {}
    for result in results:
        row = result.row
        line, column = row.name, row.mode
        if group == "lengths":
            line, column = f"{row.length:,}", row.name.split(", ")[1]
        rows.setdefault(line, {})[column] = result
    return _Sheet(group, rows)


def _gaps(results: Sequence[MemoryResult]) -> Iterator[str]:
    """A line for each row that could not be measured."""
    gaps = [result for result in results if result.missing]
    if gaps:
        yield ""
    for result in gaps:
        yield f"- {result.row.said}: not measured: {result.missing}"


def _peak(result: MemoryResult) -> float:
    return result.counted.peak


def _measured(result: MemoryResult) -> float | None:
    return None if result.measured is None else result.measured.peak


def _kept(result: MemoryResult) -> float:
    return result.counted.kept


def _standing(result: MemoryResult) -> float:
    return result.counted.weights + result.counted.gradients + result.counted.moments


def _published(result: MemoryResult) -> float | None:
    return result.row.published


def _ms(result: MemoryResult | None) -> str:
    measured = None if result is None else result.measured
    return ABSENT if measured is None else f"{1000 * measured.seconds:,.1f}"


def _parameters(of: dict[str, MemoryResult]) -> str:
    return f"{next(iter(of.values())).counted.parameters:,}"


def _sizes(sheet: _Sheet) -> Iterator[str]:
    yield from _heading(
        *("model", "parameters", "inference, published", "counted", "measured"),
        *("training: weights + gradients + moments", "kept", "kept with checkpoints"),
        *("peak, counted", "measured", "peak with checkpoints, counted", "measured"),
        *("ms a step", "ms with checkpoints"),
    )
    for name, of in sheet.rows.items():
        asked, trained, kept = map(of.get, (INFERENCE, TRAINING, CHECKPOINTED))
        yield _line(
            *(name, _parameters(of)),
            *(sheet.size(asked, figure) for figure in (_published, _peak, _measured)),
            *(sheet.size(trained, figure) for figure in (_standing, _kept)),
            sheet.size(kept, _kept),
            *(sheet.size(x, figure) for x in (trained, kept) for figure in (_peak, _measured)),
            *map(_ms, (trained, kept)),
        )


def _lengths(sheet: _Sheet) -> Iterator[str]:
    names = list(dict.fromkeys(name for of in sheet.rows.values() for name in of))
    columns = ("kept", "peak, counted", "measured", "ms a step")
    heads = (f"{name}: {column}" for name in names for column in columns)
    yield from _heading("positions", *heads)
    for length, of in sheet.rows.items():
        cells = [length]
        for found in map(of.get, names):
            cells += [sheet.size(found, figure) for figure in (_kept, _peak, _measured)]
            cells.append(_ms(found))
        yield _line(*cells)


def _muse(sheet: _Sheet) -> Iterator[str]:
    modes = {"inference": INFERENCE, "training": TRAINING, "with checkpoints": CHECKPOINTED}
    columns = (f"{name}, {how}" for name in modes for how in ("counted", "measured"))
    yield from _heading(
        "model", "parameters", "published, of", *columns, "why the published differs"
    )
    for name, of in sheet.rows.items():
        said = next((result for result in of.values() if result.row.published is not None), None)
        published = f"{sheet.size(said, _published)}, {said.row.mode}" if said else ABSENT
        found = (of.get(mode) for mode in modes.values())
        figures = (sheet.size(each, figure) for each in found for figure in (_peak, _measured))
        why = said.row.reason.removeprefix("published: ") if said else ABSENT
        yield _line(name, _parameters(of), published, *figures, why)


def _heading(*columns: str) -> Iterator[str]:
    yield _line(*columns)
    yield "|" + "---|" * len(columns)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
