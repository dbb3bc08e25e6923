"""How long a step of each row takes: remembered, or measured by a few seconds of training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tessera.commands.compare.plan import GRID, Plan, PlannedRow, run_id
from tessera.commands.compare.pool import workers
from tessera.commands.compare.training import write_whole
from tessera.commands.console import waiting_for
from tessera.commands.json_file import json_text

SPEEDS = "speeds.json"
DRY_S, EXACT_S = 1.0, 4.0  # of training, to say how long it takes, and to follow steps from it
_MOST_STEPS = 100_000  # of a measurement, which ends long before


class SpeedError(RuntimeError):
    """A row's speed could not be measured; the message says why."""


def known_speeds(plan: Plan, folder: Path) -> dict[str, float]:
    """Seconds of a step by the row's name, as far as an earlier call has measured them here."""
    try:
        found = json.loads((folder / SPEEDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {row.name: found[_key(plan, row)] for row in plan.rows if _key(plan, row) in found}


def keep_speeds(plan: Plan, folder: Path, speeds: Mapping[str, float]) -> None:
    """Write what was measured, so that a later call plans the same steps."""
    try:
        found = json.loads((folder / SPEEDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    found |= {_key(plan, row): speeds[row.name] for row in plan.rows if row.name in speeds}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SPEEDS, json_text(found))


def measured_speeds(
    plan: Plan, names: list[str], where: list[dict[str, str]], logs: Path, seconds: float
) -> tuple[dict[str, float], dict[str, str]]:
    """Train a part of a run of each of some rows.

    Args:
        plan: of the comparison.
        names: of the rows.
        where: the place of every worker, see ``pool.places``.
        logs: the folder where workers write what went wrong.
        seconds: for how long, behind the first steps.

    Returns:
        Seconds of a step by the row's name, and why there are none.
    """
    left = [row for row in plan.rows if row.name in names]
    speeds: dict[str, float] = {}
    reasons: dict[str, str] = {}
    under_way: dict[Any, str] = {}
    with workers(where[: len(left)], logs) as (_, messages):
        while left or under_way:
            worker, kind, content = messages.get()
            name = under_way.pop(worker, None)
            if kind == "ended" and name is None:
                raise SpeedError(f"a worker cannot begin: {content['reason']}.")
            if kind == "measured" and name is not None and content["step_s"]:
                speeds[name] = content["step_s"]
            elif name is not None:
                reasons[name] = content.get("reason", "its steps are too few to say")
            if left and kind in ("ready", "measured", "failed"):
                row = left.pop(0)
                under_way[worker] = row.name
                waiting_for(f"measuring {row.name}")
                worker.give({"settings": _settings(plan, row), "measure": seconds})
            elif kind == "ended" and left:
                worker.start()
    waiting_for("")
    return speeds, reasons


def _settings(plan: Plan, row: PlannedRow) -> dict[str, Any]:
    steps = _MOST_STEPS if row.steps is None else row.steps
    return plan.run(replace(row, steps=steps), GRID, plan.grid_seed, row.lrs[0]).settings


def _key(plan: Plan, row: PlannedRow) -> str:
    """Of all that a row's speed follows from."""
    settings = {**_settings(plan, replace(row, steps=_MOST_STEPS)), "lr": 0}
    settings["model"] = {**settings["model"], "lr": 0}
    beside = [plan.options.processes, plan.options.processes_per_gpu]
    return run_id({**settings, "beside": beside}, row.code)
