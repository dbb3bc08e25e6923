"""Runs of a comparison, put together by what they were tested on and by row; nothing is pooled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tessera.commands.compare.report_runs import SAME, Captured, Comparison, Run
from tessera.commands.compare.report_statistics import (
    Interval,
    Mean,
    PerGame,
    Sensitivity,
    SpeedUp,
    mean,
    mean_excess,
    paired_difference,
    sensitivity,
    speed_up,
)


@dataclass(frozen=True, slots=True)
class RowSummary:
    """What is known of one row on one kind of games.

    Attributes:
        name: of the row.
        style: its number among all rows.
        runs: finished ones with fresh seeds; none if it has failed.
        planned: how many seeds there were to be.
        features: what it reads beside the moves.
        excess: over seeds; None without a run.
        difference: from the baseline, paired over games; None for the baseline.
        sooner: the speed-up in tokens and in seconds; None for the baseline.
        rates: what its grid of learning rates says, on validation games.
        lr: that of its runs; None if it has none.
        is_at_edge: whether that rate was the smallest or the largest that was tried.
        figures: the means of all other columns that every run has.
        why: of a row without a run, why.
    """

    name: str
    style: int
    runs: Sequence[Run]
    planned: int
    features: str
    excess: Mean | None
    difference: Interval | None
    sooner: Mapping[str, SpeedUp | None]
    rates: Sensitivity | None
    lr: float | None
    is_at_edge: bool
    figures: Mapping[str, float]
    why: str

    def captures(self) -> list[Captured]:
        """By captured stones, the mean over its runs."""
        by_words: dict[str, list[Captured]] = {}
        for run in self.runs:
            for each in run.captures:
                by_words.setdefault(each.words, []).append(each)
        return [
            Captured(
                words,
                _mean_of([each.positions for each in found]) or 0.0,
                *(
                    _mean_of([getattr(each, name) for each in found])
                    for name in ("excess_nats", "legal_mass", "legal_top1")
                ),
            )
            for words, found in by_words.items()
        ]


@dataclass(frozen=True, slots=True)
class Group:
    """Games of one board, player and distribution, and every row on them.

    Attributes:
        tested_on: ``same`` or the name of other games.
        words: in a sentence.
        slug: what its files' names end in; empty for the first one.
        baseline: the row that others are compared with.
        rows: in the order of the plan.
        grids: of each row the runs that its learning rate was chosen from.
    """

    tested_on: str
    words: str
    slug: str
    baseline: str
    rows: Sequence[RowSummary]
    grids: Mapping[str, Sequence[Run]]


def groups_of(comparison: Comparison) -> list[Group]:
    """A group for each kind of games on which a run with a fresh seed is done."""
    kinds = dict.fromkeys(
        _kind(run) for run in comparison.runs if run.phase == "report" and run.is_done
    )
    ordered = sorted(kinds, key=lambda kind: kind[0] != SAME)
    return [_group(comparison, kind, is_first=nth == 0) for nth, kind in enumerate(ordered)]


def _kind(run: Run) -> tuple[str, int | None, str]:
    return run.tested_on, run.board_size, run.player


def _group(comparison: Comparison, kind: tuple[str, int | None, str], is_first: bool) -> Group:
    tested_on, size, player = kind
    board = "" if size is None else f"{size}×{size}"
    games = ", ".join(filter(None, [board, player]))
    words = f"the games of training ({games})" if games else "the games of training"
    if tested_on != SAME:
        words = f"other games, those of {tested_on}" + (f" (trained on {games})" if games else "")
    parts = [tested_on, *([] if size is None else [f"{size}x{size}"]), player]
    slug = "" if is_first else re.sub(r"[^A-Za-z0-9]+", "_", "_".join(["", *parts])).rstrip("_")
    grids: dict[str, list[Run]] = {}
    # Validation games are those of training, so a grid belongs there.
    for run in comparison.runs:
        if run.phase == "grid" and tested_on == SAME and _is_of(run, kind):
            grids.setdefault(run.row, []).append(run)
    done = {name: _done(comparison, name, kind) for name in comparison.rows}
    rows = []
    for style, name in enumerate(comparison.rows):
        every = [run for run in comparison.runs if run.row == name]
        if done[name] or any(_is_of(run, kind) for run in every):
            grid = grids.get(name, [])
            rows.append(_row(comparison, style, every, done[name], done[comparison.baseline], grid))
    return Group(tested_on, words, slug, comparison.baseline, rows, grids)


def _done(comparison: Comparison, name: str, kind: tuple[str, int | None, str]) -> list[Run]:
    runs = (run for run in comparison.runs if run.row == name and _kind(run) == kind)
    found = {run.run_id: run for run in runs if run.phase == "report" and run.is_done}
    return list(found.values())


def _is_of(run: Run, kind: tuple[str, int | None, str]) -> bool:
    """Whether a run that may not have got as far as its games would have come to these."""
    return run.board_size in (None, kind[1]) and (not run.player or run.player == kind[2])


def _row(
    comparison: Comparison,
    style: int,
    every: Sequence[Run],
    done: Sequence[Run],
    baseline: Sequence[Run],
    grid: Sequence[Run],
) -> RowSummary:
    name = every[0].row
    is_baseline = name == comparison.baseline
    seeds = comparison.plan.get("seeds")
    planned = len(seeds) if isinstance(seeds, list) else len({run.seed for run in done})
    excess = [run.figures["excess_nats"] for run in done if "excess_nats" in run.figures]
    rates = sensitivity(
        [
            (run.lr, run.figures.get("excess_nats"))
            for run in grid
            if run.lr is not None and run.status in ("done", "failed")
        ]
    )
    is_at_edge = any(run.lr_at_edge for run in done) or (rates is not None and rates.is_at_edge)
    sooner: dict[str, SpeedUp | None] = {}
    if not is_baseline:
        sooner = {
            axis: speed_up(_curves(done, axis), _curves(baseline, axis))
            for axis in ("tokens", "seconds")
        }
    return RowSummary(
        name=name,
        style=style,
        runs=done,
        planned=max(planned, len(done)),
        features=next((run.features for run in every if run.features), ""),
        excess=mean_excess(excess, _games(done)),
        difference=None if is_baseline else paired_difference(_games(done), _games(baseline)),
        sooner=sooner,
        rates=rates,
        lr=done[0].lr if done else None if rates is None else rates.lr,
        is_at_edge=is_at_edge,
        figures=_means(done),
        why="" if done else _why(every),
    )


def _games(runs: Sequence[Run]) -> list[PerGame]:
    """Of all runs, or of none: a mean must be of the same seeds as its interval."""
    found = [run.per_game for run in runs if run.per_game is not None]
    return found if len(found) == len(runs) else []


def _curves(runs: Sequence[Run], axis: str) -> list[list[tuple[float, float]]]:
    """Of each run (tokens or seconds, excess); seconds only where the run's own were measured."""
    return [
        [(x, look.excess_nats) for look in run.curve if (x := getattr(look, axis)) is not None]
        if axis == "tokens" or axis in run.figures
        else []
        for run in runs
    ]


def _means(runs: Sequence[Run]) -> dict[str, float]:
    names = dict.fromkeys(name for run in runs for name in run.figures)
    found = {
        name: mean([run.figures[name] for run in runs if name in run.figures]) for name in names
    }
    counts = {name: sum(name in run.figures for run in runs) for name in names}
    return {
        name: each.value
        for name, each in found.items()
        if each is not None and counts[name] == len(runs)
    }


def _mean_of(values: Sequence[float | None]) -> float | None:
    found = mean([value for value in values if value is not None])
    return None if found is None else found.value


def _why(every: Sequence[Run]) -> str:
    """The last failure of a row that came to nothing, or what it waits for."""
    for run in reversed(every):
        if run.reason:
            return f"{run.status}: {run.reason}"
    return every[-1].status
