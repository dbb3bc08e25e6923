"""The runs that a scaling law is fitted to, as ``runs.csv`` holds them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tessera.commands.csv_lines import csv_lines
from tessera.commands.one_line import one_line

NEEDED = ("row", "N", "D", "loss", "excess_nats", "board_size", "player")
LEAST_RUNGS = 4  # a window of the design's
_SAME = 1.02  # token budgets that differ by less are one rung
_MAX_SIZE = 2**26  # bytes
_NATS, _COUNTED = (1e-9, 500.0), (1.0, 1e18)  # what a run's figures may be
_GAMES = ("board_size", "player")  # losses on other games are never pooled


class RunsError(ValueError):
    """Runs that nothing can be fitted to; the message is a line for each problem."""


class Run(NamedTuple):
    """One finished run, measured on games that it was not trained on.

    Attributes:
        parameters: all of the model's.
        tokens: that it was trained on.
        loss: in nats.
        excess_nats: the loss less that of the player itself on the same games.
        excess_se: standard error of that; None if it is not known.
        floor_nats: entropy of the player's distribution on these games; None if it is not known.
        seed: of the weights; nothing if it is not known.
    """

    parameters: int
    tokens: int
    loss: float
    excess_nats: float
    excess_se: float | None = None
    floor_nats: float | None = None
    seed: str = ""


@dataclass(frozen=True)
class Row:
    """The runs of one model, or of one at several sizes, all on the same kind of games.

    Attributes:
        name: in the file.
        games: in words, such as ``9×9, uniform``.
        runs: by parameters, then tokens.
    """

    name: str
    games: str
    runs: tuple[Run, ...]

    @property
    def sizes(self) -> dict[int, list[list[Run]]]:
        """Each number of parameters: its rungs, each with its runs (one for each seed)."""
        found: dict[int, list[list[Run]]] = {}
        for run in self.runs:
            rungs = found.setdefault(run.parameters, [])
            if not rungs or run.tokens > _SAME * rungs[-1][0].tokens:
                rungs.append([])
            rungs[-1].append(run)
        return found

    @property
    def truth(self) -> float:
        """The loss of the player itself on these games: no model's can be lower in the long run."""
        return math.fsum(run.loss - run.excess_nats for run in self.runs) / len(self.runs)


def read_rows(
    path: str, names: Collection[str] = (), tested_on: str = "same", **games: str | None
) -> list[Row]:
    """The rows of a file, in its order.

    Args:
        path: the file.
        names: those that are wanted; none for all.
        tested_on: which of several distributions of test games.
        games: ``board_size`` and ``player`` of those wanted; None for all, if they are one.

    Raises:
        RunsError: if the file cannot be read, lacks a column or a rung, or pools what cannot be.
    """
    lines = list(_lines(path))
    there = list(dict.fromkeys(line["row"] for _, line in lines))
    if missing := [name for name in names if name not in there]:
        raise RunsError(one_line(f"--row must be one of {', '.join(there)}, got {missing[0]}."))
    lines = [(at, line) for at, line in lines if not names or line["row"] in names]
    lines = _chosen(path, lines, "tested_on", tested_on)
    for column in _GAMES:
        if (wanted := games.get(column)) is not None:
            lines = _chosen(path, lines, column, wanted)
    _check_games(path, [line for _, line in lines])
    found: dict[str, list[Run]] = {}
    problems = []
    for at, line in lines:
        try:
            found.setdefault(line["row"], []).append(_run(line))
        except ValueError as error:
            problems.append(one_line(f"{path}, line {at}: {error}"))
    if problems:
        raise RunsError("\n".join(problems))
    if not found:
        raise RunsError(f"{path} holds no run that is done.")
    words = _games(lines[0][1])
    rows = [Row(name, words, tuple(sorted(runs))) for name, runs in found.items()]
    for row in rows:
        _check_rungs(path, row)
    return rows


def _lines(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of runs that are done, each with its number; cells by their columns."""
    file = Path(path)
    try:
        if not file.is_file():
            what = "is a folder" if path and file.is_dir() else "is no file"
            raise RunsError(one_line(f"{path or 'nothing'} {what}; a runs.csv is wanted."))
        if file.stat().st_size > _MAX_SIZE:
            raise RunsError(f"{path} must have at most {_MAX_SIZE:,} bytes.")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunsError(f"{path} must be UTF-8 text.") from error
    except OSError as error:
        raise RunsError(one_line(f"{path} cannot be read: {error.strerror}.")) from error
    except ValueError as error:
        if isinstance(error, RunsError):
            raise
        raise RunsError(one_line(f"{path} is no file's name.")) from error
    try:
        for at, line in csv_lines(text, NEEDED, _lacking):
            if line.get("status", "done") == "done" and line.get("phase", "report") != "grid":
                yield at, line
    except ValueError as error:
        raise RunsError(one_line(f"{path}{error}")) from error


def _lacking(missing: list[str]) -> str:
    return f"lacks the columns {', '.join(missing)}; needed are {', '.join(NEEDED)}."


def _chosen(
    path: str, lines: list[tuple[int, dict[str, str]]], column: str, wanted: str
) -> list[tuple[int, dict[str, str]]]:
    """The lines with this value in the column, or without a value in it."""
    chosen = [(at, line) for at, line in lines if line.get(column, wanted) in (wanted, "")]
    if lines and not chosen:
        there = ", ".join(dict.fromkeys(line[column] for _, line in lines))
        raise RunsError(one_line(f"--{column} must be one of {there}, got {wanted}."))
    return chosen


def _check_games(path: str, lines: list[dict[str, str]]) -> None:
    kinds = list(dict.fromkeys(map(_games, lines)))
    if len(kinds) > 1:
        raise RunsError(
            one_line(
                f"{path} holds runs on {' and on '.join(kinds)}, whose losses are never pooled; "
                "choose with --board_size or --player."
            )
        )
    inputs: dict[str, str] = {}
    for line in lines:
        reads = line.get("features", "")
        if inputs.setdefault(line["row"], reads) != reads:
            both = " and ".join(map(repr, (inputs[line["row"]], reads)))
            raise RunsError(one_line(f"{path}: {line['row']} must read one features, got {both}."))


def _check_rungs(path: str, row: Row) -> None:
    for size, rungs in row.sizes.items():
        if len(rungs) < LEAST_RUNGS:
            raise RunsError(
                one_line(
                    f"{path}: {row.name} must have at least {LEAST_RUNGS} token budgets at "
                    f"{size:,} parameters, got {len(rungs)}."
                )
            )


def _games(line: Mapping[str, str]) -> str:
    size = line["board_size"]
    return f"{size}×{size}, {line['player']}"


def _run(line: Mapping[str, str]) -> Run:
    # Beyond these the laws cannot be computed: a loss is raised to powers, and has an exponential.
    loss, excess = (_number(line, name, *_NATS) for name in ("loss", "excess_nats"))
    if excess >= loss:
        raise ValueError(f"excess_nats must be less than the loss {loss:g}, got {excess:g}.")
    return Run(
        round(_number(line, "N", *_COUNTED)),
        round(_number(line, "D", *_COUNTED)),
        loss,
        excess,
        _number(line, "excess_se", 0.0, _NATS[1]) if line.get("excess_se") else None,
        _number(line, "floor_nats", 0.0, _NATS[1]) if line.get("floor_nats") else None,
        line.get("seed", ""),
    )


def _number(line: Mapping[str, str], column: str, least: float, most: float) -> float:
    text = line[column].strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and (value > 0 or least <= 0 == value)):
        wanted = "more than 0, or it has no logarithm" if least > 0 else "a number, 0 or more"
        raise ValueError(f"{column} must be {wanted}, got {text or 'nothing'}.")
    if not least <= value <= most:
        raise ValueError(f"{column} must be {least:g} to {most:g}, got {text}.")
    return value
