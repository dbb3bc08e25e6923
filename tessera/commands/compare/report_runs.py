"""What a folder of ``tessera compare`` holds, read without torch: its plan, lines and results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tessera.commands.compare.report_statistics import PerGame
from tessera.commands.csv_lines import csv_lines
from tessera.setting_errors import SettingError

PLAN, LINES, RUNS, RESULT = "plan.json", "runs.csv", "runs", "result.json"
SAME = "same"  # games of the distribution that was trained on
_NO_NUMBERS = {
    *("run_id", "row", "phase", "status", "reason", "tested_on", "player", "features"),
    "lr_at_edge",
}
_NEEDED = ("run_id", "row", "phase", "seed", "lr", "status", "excess_nats", "tested_on")
_NO_FIGURES = {"seed", "lr", "board_size"}
_BELOW_0 = {"excess_nats"}  # a model may be lucky on few games
_MOST = 1e30  # of any number; pictures and spreads could not be computed of larger ones
_YES = {"1", "true", "yes"}


@dataclass(frozen=True, slots=True)
class Look:
    """One validation along the way.

    Attributes:
        step: optimizer steps so far.
        tokens: trained on so far.
        seconds: of training so far; None if they were not taken.
        excess_nats: on the validation games.
    """

    step: int
    tokens: float
    seconds: float | None
    excess_nats: float


@dataclass(frozen=True, slots=True)
class Captured:
    """Positions with a range of captured stones; what was not measured is None.

    Attributes:
        words: the range, such as ``1-4``.
        positions: how many.
        excess_nats: in the mean of them.
        legal_mass: likewise.
        legal_top1: likewise.
    """

    words: str
    positions: float
    excess_nats: float | None
    legal_mass: float | None
    legal_top1: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One line of ``runs.csv``, with what its result holds of the same games.

    Attributes:
        run_id: names its folder; empty before it is known.
        row: of the comparison.
        phase: ``grid`` or ``report``.
        seed: None before it is known.
        lr: likewise.
        lr_at_edge: what the line says of it.
        status: such as ``done``.
        reason: why, if it is not.
        tested_on: ``same`` or the name of other games.
        board_size: of the games; None if it is not said.
        player: of the games, empty if it is not said.
        features: what the model reads beside the moves.
        figures: those of the other columns that are finite numbers.
        curve: validations along the way.
        captures: by captured stones.
        per_game: excess of each test game; None if it is not there.
    """

    run_id: str
    row: str
    phase: str
    seed: int | None
    lr: float | None
    lr_at_edge: bool
    status: str
    reason: str
    tested_on: str
    board_size: int | None
    player: str
    features: str
    figures: Mapping[str, float]
    curve: tuple[Look, ...] = ()
    captures: tuple[Captured, ...] = ()
    per_game: PerGame | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has figures to show."""
        return self.status == "done"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A whole folder.

    Attributes:
        folder: where it is.
        plan: as it was written.
        runs: a run has one for each kind of games that it was tested on.
    """

    folder: Path
    plan: Mapping[str, Any]
    runs: Sequence[Run]
    rows: tuple[str, ...] = field(default=())

    @property
    def baseline(self) -> str:
        """The row that others are compared with: the plan's, or the first one."""
        name = self.plan.get("baseline")
        return name if isinstance(name, str) and name in self.rows else self.rows[0]


def read_comparison(folder: Path) -> Comparison:
    """Read all of it.

    Raises:
        SettingError: in one line, if there is no such folder, no run in it, or a file is broken.
    """
    try:
        what = "that is a file" if folder.is_file() else "there is no such folder"
        if folder.is_dir():
            missing = [name for name in (PLAN, LINES) if not (folder / name).is_file()]
            what = f"there is no {missing[0]} in it" if missing else ""
    except OSError as error:  # a name that is too long, a folder that cannot be looked into
        what = str(error.strerror)
    if what:
        raise SettingError(f"FOLDER must be one of tessera compare, got {folder}: {what}.")
    plan = _json(folder / PLAN)
    runs = _with_results(folder, _lines(folder / LINES))
    if not runs:
        raise SettingError(f"{folder / LINES} holds no run yet.")
    names = dict.fromkeys([*_row_names(plan), *(run.row for run in runs)])
    there = {run.row for run in runs}
    return Comparison(folder, plan, runs, tuple(name for name in names if name in there))


def _row_names(plan: Mapping[str, Any]) -> list[str]:
    """Rows in the order of the plan, which may say more of each than its name."""
    rows = plan.get("rows")
    if isinstance(rows, Mapping):
        return [str(name) for name in rows]
    found = []
    for row in rows if isinstance(rows, list) else []:
        name = row.get("row", row.get("name")) if isinstance(row, Mapping) else row
        if isinstance(name, str):
            found.append(name)
    return found


def _lines(path: Path) -> list[Run]:
    runs, text = list[Run](), _text(path)
    try:
        for at, line in csv_lines(text, _NEEDED, _lacking):
            try:
                runs.append(_run(line))
            except ValueError as error:
                raise ValueError(f", line {at}: {error}") from error
    except ValueError as error:
        raise SettingError(f"{path}{error}") from error
    return runs


def _lacking(missing: list[str]) -> str:
    return f"must have the columns {', '.join(_NEEDED)}; lacks {missing[0]}."


def _run(line: Mapping[str, str]) -> Run:
    numbers = {name: _number(name, text) for name, text in line.items() if name not in _NO_NUMBERS}
    figures = {
        name: value
        for name, value in numbers.items()
        if value is not None and name not in _NO_FIGURES
    }
    # Runs to come have none yet.
    if line["run_id"] and not re.fullmatch(r"\w[\w.-]{0,63}", line["run_id"]):
        raise ValueError(f"run_id must be a folder of runs, got {line['run_id']}.")
    seed, size = numbers.get("seed"), numbers.get("board_size")
    return Run(
        run_id=line["run_id"],
        row=line["row"],
        phase=line["phase"],
        seed=None if seed is None else int(seed),
        lr=numbers.get("lr"),
        lr_at_edge=line.get("lr_at_edge", "").lower() in _YES,
        status=line["status"],
        reason=line.get("reason", ""),
        tested_on=line["tested_on"] or SAME,
        board_size=None if size is None else int(size),
        player=line.get("player", ""),
        features=line.get("features", ""),
        figures=figures,
    )


def _number(name: str, text: str) -> float | None:
    """None for an empty cell, and for a number that is none."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text}.") from None
    if not math.isfinite(value):
        return None
    least = -_MOST if name in _BELOW_0 else 0.0
    if not least <= value <= _MOST:
        raise ValueError(f"{name} must be {least:g} to {_MOST:g}, got {text}.")
    return value


def _with_results(folder: Path, runs: Sequence[Run]) -> list[Run]:
    found, results = [], dict[str, dict[str, Any]]()
    for run in runs:
        path = folder / RUNS / run.run_id / RESULT
        if not run.is_done:
            found.append(run)
            continue
        if run.run_id not in results:
            if not path.is_file():
                raise SettingError(
                    f"{folder / LINES}: {run.run_id} is done, but there is no {path}."
                )
            results[run.run_id] = _json(path)
        try:
            found.append(_with_result(run, results[run.run_id]))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise SettingError(f"{path} is no result of a run: {_told(error)}.") from error
    return found


def _with_result(run: Run, result: dict[str, Any]) -> Run:
    own = result if run.tested_on == SAME else result.get("tested", {}).get(run.tested_on, {})
    looks = (_look(point) for point in result.get("curve") or ())
    captures = tuple(_captured(each) for each in own.get("captures") or ())
    per_game = own.get("per_game")
    games = None
    if per_game:
        excess, tokens = (np.asarray(per_game[name], float) for name in ("excess_sum", "tokens"))
        is_one = excess.ndim == 1 and excess.shape == tokens.shape
        if not is_one or not (abs(excess) <= _MOST).all():
            raise ValueError("per_game must have a finite excess_sum for each of its tokens")
        if not ((tokens >= 0) & (tokens <= _MOST)).all() or (len(tokens) and not tokens.any()):
            raise ValueError("per_game must have the tokens of each game, 0 or more")
        games = PerGame(excess, tokens) if len(tokens) else None
    return replace(
        run,
        curve=tuple(look for look in looks if look is not None),
        captures=captures,
        per_game=games,
    )


def _look(point: Mapping[str, Any]) -> Look | None:
    tokens, seconds = (_finite(point.get(x), 0.0) for x in ("tokens", "seconds"))
    excess = _finite(point.get("excess_nats"))
    if not tokens or excess is None:
        return None
    return Look(int(point.get("step") or 0), tokens, seconds, excess)


def _captured(each: Mapping[str, Any]) -> Captured:
    first, last = each["captured_from"], each["captured_to"]
    words = f"{first}+" if last is None else f"{first}" if first == last else f"{first}-{last}"
    figures = (_finite(each.get(name)) for name in ("excess_nats", "legal_mass", "legal_top1"))
    return Captured(words, _finite(each["positions"], 0.0) or 0.0, *figures)


def _finite(value: Any, least: float = -_MOST) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    if not least <= number <= _MOST:
        raise ValueError(f"a number must be {least:g} to {_MOST:g}, got {number:g}")
    return number


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingError(f"{path} is no JSON: {error}.") from error
    except ValueError as error:  # more digits than Python reads
        raise SettingError(f"{path} is no JSON of ours: a number is too long.") from error
    except RecursionError as error:
        raise SettingError(f"{path} is no JSON of ours: too deep.") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path} must hold an object, got {type(content).__name__}.")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} must be UTF-8 text.") from error


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
