"""All fits to the rows of a file: the design's line, and a law for every floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tessera.commands.scaling.laws import FREE, KNOWN, Law, fit_law, groups
from tessera.commands.scaling.line import Line, Trend, fit_trend
from tessera.commands.scaling.runs_file import Row, Run, RunsError

_MOST_FLOOR = 1e3  # nats
# What a line goes through; the perplexity is the design's own choice.
QUANTITIES: dict[str, Callable[[Run], float]] = {
    "excess": lambda run: run.excess_nats,
    "loss": lambda run: run.loss,
    "perplexity": lambda run: math.exp(run.loss),
}


@dataclass(frozen=True)
class Group:
    """Runs that are fitted together, and what came out.

    Attributes:
        runs: of all sizes, or of one.
        laws: one for each floor.
    """

    runs: tuple[Run, ...]
    laws: tuple[Law, ...]

    @property
    def sizes(self) -> list[int]:
        """The numbers of parameters, the smallest first."""
        return sorted({run.parameters for run in self.runs})


@dataclass(frozen=True)
class Fits:
    """All that was fitted to a row.

    Attributes:
        row: the runs.
        trends: by size, then by what the line goes through.
        groups: see ``Group``.
    """

    row: Row
    trends: dict[int, dict[str, Trend]]
    groups: tuple[Group, ...]


def floor_problems(floors: Sequence[str]) -> list[str]:
    """Why floors cannot be fitted above, before there are any runs."""
    problems = []
    for floor in floors:
        if floor not in (KNOWN, FREE):
            if not _is_number(floor):
                must = f"{KNOWN}, {FREE} or a number of nats"
                problems.append(f"--floor must be {must}, got {floor}.")
            elif abs(float(floor)) > _MOST_FLOOR:
                must = f"-{_MOST_FLOOR:g} to {_MOST_FLOOR:g} nats"
                problems.append(f"--floor must be {must}, got {floor}.")
    return problems


def fit_row(row: Row, floors: Sequence[str], replicates: int, seed: int) -> Fits:
    """Fit everything.

    Args:
        row: the runs.
        floors: known, free, or a number.
        replicates: of each bootstrap.
        seed: of each bootstrap.

    Raises:
        RunsError: if a floor is not below every loss.
    """
    least = min(run.loss for run in row.runs)
    for floor in floors:
        if floor not in (KNOWN, FREE) and float(floor) >= least:
            raise RunsError(
                f"--floor must be below {least:.4f}, the least loss of {row.name}, got {floor}."
            )
    trends = {
        size: {
            name: fit_trend(
                [([run.tokens for run in rung], list(map(value, rung))) for rung in rungs]
            )
            for name, value in QUANTITIES.items()
        }
        for size, rungs in row.sizes.items()
    }
    found = [
        Group(
            runs,
            tuple(fit_law(runs, row.truth, floor, replicates, seed) for floor in floors),
        )
        for runs in groups(row)
    ]
    return Fits(row, trends, tuple(found))


def as_json(fits: Fits) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        "row": fits.row.name,
        "games": fits.row.games,
        "player_loss": fits.row.truth,
        "runs": [run._asdict() for run in fits.row.runs],
        "lines": [
            {"N": size, "of": name, **_of_trend(trend)}
            for size, trends in fits.trends.items()
            for name, trend in trends.items()
        ],
        "laws": [dict(_of_law(group, law)) for group in fits.groups for law in group.laws],
    }


def _of_trend(trend: Trend) -> dict[str, Any]:
    return {
        **_of_line(trend.line),
        "windows": [
            {"from": first, "to": last, **_of_line(line)} for first, last, line in trend.windows
        ],
        "delta_alpha": trend.delta_alpha,
        "trend": trend.verdict,
    }


def _of_line(line: Line) -> dict[str, Any]:
    return {**asdict(line), "A": math.exp(line.log_a) if line.log_a < 700 else None}


def _of_law(group: Group, law: Law) -> Iterator[tuple[str, Any]]:
    yield "N", group.sizes
    for name, value in asdict(law).items():
        if name == "held_out":
            yield name, [{**asdict(each), "error": each.error} for each in law.held_out]
        elif name not in ("a", "alpha") or len(group.sizes) > 1:
            yield name, value
    yield "off", law.off
    yield "grade", law.grade


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
