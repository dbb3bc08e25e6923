"""The tables of a comparison, as a person reads them on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.commands.compare.report_runs import SAME, Comparison
from tessera.commands.compare.report_statistics import Interval, Mean, SpeedUp
from tessera.commands.compare.report_summary import Group, RowSummary
from tessera.commands.table import ABSENT, Cell, table

_ONE_SEED = "†"
_COSTS = {
    "N": ("parameters", ",.0f"),
    "n_non_embedding": ("without embedding", ",.0f"),
    "state_bytes": ("state bytes", ",.0f"),
    "flops_per_token": ("FLOPs/token", ",.0f"),
    "C": ("training FLOPs", ".3g"),
    "D": ("tokens", ",.0f"),
    "tokens_per_s": ("tokens/s", ",.0f"),
    "seconds": ("seconds", ",.1f"),
    "peak_mb": ("peak MiB", ",.0f"),
}
_BY_CAPTURES = {
    "excess_nats": ("Excess by captured stones, in nats", ".4f"),
    "legal_mass": ("Legal mass by captured stones", ".4f"),
    "legal_top1": ("Legal top-1 by captured stones", ".4f"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        title: above it.
        columns: headings, and how numbers are written, as ``tessera.commands.table`` has them.
        rows: cells; the last one of a shorter row runs over the rest.
        notes: below it.
    """

    title: str
    columns: Mapping[str, Any]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def terminal(self) -> list[str]:
        """Its lines with columns below each other."""
        return [self.title, *table(self.rows, self.columns), *self.notes, ""]

    def markdown(self) -> list[str]:
        """Its lines in Markdown."""
        forms = list(self.columns.values())
        sides = ["---" if form is None else "--:" for form in forms]
        lines = [_line(list(self.columns)), f"|{'|'.join(sides)}|"]
        for row in self.rows:
            cells = [_written(cell, form) for cell, form in zip(row, forms, strict=False)]
            lines.append(_line([*cells, *[""] * (len(forms) - len(cells))]))
        notes = [part for note in self.notes for part in ("", note)]
        return [f"**{self.title}**", "", *lines, *notes, ""]


def tables_of(group: Group) -> list[Table]:
    """Every table of these games."""
    tables = [_learned(group)]
    if group.tested_on == SAME:  # where validation games come from, and once is enough
        tables += [_learning(group), _costs(group)]
    return [each for each in (*tables, *_by_captures(group)) if each.rows]


def unfinished(comparison: Comparison) -> Table | None:
    """Runs that are not done, with the reason; None if all are."""
    rows: dict[tuple[Cell, ...], None] = {}
    for run in comparison.runs:
        if not run.is_done:
            lr = ABSENT if run.lr is None else f"{run.lr:g}"
            seed = ABSENT if run.seed is None else str(run.seed)
            rows[run.row, run.phase, seed, lr, run.status, run.reason or ABSENT] = None
    if not rows:
        return None
    columns = {"row": None, "phase": None, "seed": "d", "lr": "g", "status": None, "reason": None}
    return Table("Runs that are not done", columns, list(rows))


def _learned(group: Group) -> Table:
    has_features = any(row.features for row in group.rows)
    columns: dict[str, Any] = {"row": None}
    columns |= {"reads": None} if has_features else {}
    columns |= {"seeds": "d", "excess_nats ± spread": ".4f", "standard error": ".4f"}
    columns |= {f"difference from {group.baseline}": "+.4f"}
    columns |= {"loss": ".4f", "legal_mass": ".4f", "legal_top1": ".4f"}
    rows: list[list[Cell]] = []
    for row in group.rows:
        cells: list[Cell] = [row.name, *([row.features or ABSENT] if has_features else [])]
        if not row.runs:
            rows.append([*cells, row.why])
            continue
        cells += [_seeds(row), _with_spread(row.excess)]
        cells += [None if row.excess is None else row.excess.error]
        cells.append("baseline" if row.name == group.baseline else _with_ends(row.difference))
        cells += [row.figures.get(name) for name in ("loss", "legal_mass", "legal_top1")]
        rows.append(cells)
    notes = [
        "Differences are paired over the same test games, with 95 % intervals over seeds and games."
    ]
    if any(row.difference is not None and not row.difference.has_seeds for row in group.rows):
        notes.append(f"{_ONE_SEED} over games alone: one of the two rows has a single seed.")
    return Table(f"Excess on {group.words}", columns, rows, notes)


def _learning(group: Group) -> Table:
    columns: dict[str, Any] = {"row": None, "lr": "g", "one step below": "+.4f"}
    columns |= {"one step above": "+.4f", "sooner by tokens": ".2f", "sooner by seconds": ".2f"}
    rows: list[list[Cell]] = []
    for row in group.rows:
        if not row.runs:
            continue
        lr = ABSENT if row.lr is None else f"{row.lr:g}{' (edge)' if row.is_at_edge else ''}"
        cells: list[Cell] = [row.name, lr, *_beside(row)]
        if row.name == group.baseline:
            cells += ["baseline", "baseline"]
        else:
            cells += [_factor(row.sooner.get(axis)) for axis in ("tokens", "seconds")]
        rows.append(cells)
    notes = [
        "One step: the excess that is lost one step of the grid beside the best learning rate, on "
        "validation games.",
        f"Sooner: how many times sooner a row has the excess that {group.baseline} ends with.",
    ]
    if any(row.is_at_edge for row in group.rows if row.runs):
        notes.append("(edge): no worse rate was tried on one side, so a better one may lie beyond.")
    if any(
        found is not None and found.interval is not None and not found.interval.has_seeds
        for row in group.rows
        for found in row.sooner.values()
    ):
        notes.append(
            f"{_ONE_SEED} without an interval: one of the two rows has a single seed, or a seed "
            f"never comes to what one of {group.baseline} ends with."
        )
    return Table("Learning rates and speed-up at equal excess", columns, rows, notes)


def _costs(group: Group) -> Table:
    done = [row for row in group.rows if row.runs]
    there = {name: x for name, x in _COSTS.items() if any(name in row.figures for row in done)}
    columns: dict[str, Any] = {"row": None, **dict(there.values())}
    rows = [[row.name, *(row.figures.get(name) for name in there)] for row in done]
    return Table("What it takes", columns, rows)


def _by_captures(group: Group) -> list[Table]:
    found = {row.name: row.captures() for row in group.rows}
    words = list(dict.fromkeys(each.words for own in found.values() for each in own))
    if not words:
        return []
    positions = {each.words: each.positions for own in found.values() for each in own}
    tables = []
    for name, (title, form) in _BY_CAPTURES.items():
        rows: list[list[Cell]] = []
        for row, own in found.items():
            by_words = {each.words: getattr(each, name) for each in own}
            if any(value is not None for value in by_words.values()):
                rows.append([row, *(by_words.get(each) for each in words)])
        counts: list[Cell] = ["positions", *(f"{positions[each]:,.0f}" for each in words)]
        columns = {"captured": None, **dict.fromkeys(words, form)}
        tables.append(Table(title, columns, [counts, *rows] if rows else []))
    return tables


def _seeds(row: RowSummary) -> str:
    done = len(row.runs)
    return str(done) if done == row.planned else f"{done} of {row.planned}"


def _with_spread(found: Mean | None) -> Cell:
    if found is None:
        return None
    return f"{found.value:.4f}" + ("" if found.spread is None else f" ± {found.spread:.4f}")


def _with_ends(found: Interval | None) -> Cell:
    if found is None:
        return None
    mark = "" if found.has_seeds else f" {_ONE_SEED}"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]{mark}"


def _factor(found: SpeedUp | None) -> Cell:
    if found is None:
        return None
    if found.interval is None:
        if found.reached:
            return f"reached by {found.reached} of {found.seeds}"
        return "not reached"
    sign, value = "≥ " if found.is_at_least else "", found.interval
    ends = f" [{value.low:.2f}, {value.high:.2f}]" if value.has_seeds else f" {_ONE_SEED}"
    return f"{sign}{value.value:.2f} ×{ends}"


def _beside(row: RowSummary) -> list[Cell]:
    if row.rates is None:
        return [None, None]
    lost = (row.rates.below, row.rates.above)
    return [
        "failed" if has_failed else value
        for value, has_failed in zip(lost, row.rates.has_failed, strict=True)
    ]


def _written(cell: Cell, form: Any) -> str:
    if cell is None or isinstance(cell, str):
        text = ABSENT if cell is None else cell
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return format(cell, form if isinstance(form, str) else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
