"""How long a step of each row takes: remembered, or measured by a few seconds of training."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tessera.commands.compare.plan import GRID, Plan, PlannedRow, run_id
from tessera.commands.compare.pool import Message, Worker, workers
from tessera.commands.compare.training import write_whole
from tessera.commands.console import waiting_for
from tessera.commands.json_file import json_text

SPEEDS = "speeds.json"
_BRIEF_S, _EXACT_S = 1.0, 4.0  # of training, behind the first steps
PATIENCE_S = 60.0  # for a row, its games and the compilation of its kernels included
_LOOK_S = 1.0
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
    plan: Plan, names: list[str], where: list[dict[str, str]], logs: Path, is_exact: bool
) -> tuple[dict[str, float], dict[str, str]]:
    """Train a part of a run of each of some rows.

    Args:
        plan: of the comparison.
        names: of the rows.
        where: the place of every worker, see ``pool.places``.
        logs: the folder where workers write what went wrong.
        is_exact: whether steps follow from it; otherwise it is shorter, and ends with the first
            row that takes a minute.

    Returns:
        Seconds of a step by the row's name, and why there are none.
    """
    rows = [row for row in plan.rows if row.name in names]
    with workers(where[: len(rows)], logs) as (_, messages):
        return _Measurement(plan, rows, messages, is_exact).made()


class _Measurement:
    """Gives workers a row each, as long as there are any."""

    def __init__(
        self,
        plan: Plan,
        rows: list[PlannedRow],
        messages: queue.SimpleQueue[Message],
        is_exact: bool,
    ) -> None:
        self._plan, self._left, self._messages, self._is_exact = plan, rows, messages, is_exact
        self._speeds: dict[str, float] = {}
        self._reasons: dict[str, str] = {}
        self._ready: set[Worker] = set()
        self._under_way: dict[Worker, tuple[str, float]] = {}  # a row's name, and since when

    def made(self) -> tuple[dict[str, float], dict[str, str]]:
        """See ``measured_speeds``."""
        while self._left or self._under_way:
            try:
                self._hear(self._messages.get(timeout=_LOOK_S))
            except queue.Empty:
                self._lose_patience()
        waiting_for("")
        return self._speeds, self._reasons

    def _hear(self, message: Message) -> None:
        worker, kind, content = message
        if kind == "ready":
            self._ready.add(worker)
            self._give(worker)
        elif kind == "ended":
            if worker not in self._ready:
                raise SpeedError(f"a worker cannot begin: {content['reason']}.")
            self._ready.discard(worker)
            if worker in self._under_way:
                self._reasons[self._under_way.pop(worker)[0]] = content["reason"]
            if self._left:
                worker.start()
        elif worker in self._under_way:
            name, _ = self._under_way.pop(worker)
            if content.get("step_s"):
                self._speeds[name] = content["step_s"]
            else:
                self._reasons.setdefault(name, content.get("reason", "its steps are too few"))
            if kind != "interrupted" and not content.get("is_ending"):
                self._give(worker)

    def _give(self, worker: Worker) -> None:
        if self._left:
            row = self._left.pop(0)
            self._under_way[worker] = row.name, time.monotonic()
            waiting_for(f"measuring {row.name}")
            seconds = _EXACT_S if self._is_exact else _BRIEF_S
            worker.give({"settings": _settings(self._plan, row), "measure": seconds})

    def _lose_patience(self) -> None:
        """Stop whatever takes too long; what is still to be measured would not be faster."""
        for worker, (name, since) in self._under_way.items():
            if not self._is_exact and time.monotonic() - since > PATIENCE_S:
                self._reasons[name] = f"it takes more than {PATIENCE_S:.0f} s"
                self._left.clear()
                worker.stop()


def _settings(plan: Plan, row: PlannedRow) -> dict[str, Any]:
    steps = _MOST_STEPS if row.steps is None else row.steps
    return plan.run(replace(row, steps=steps), GRID, plan.grid_seed, row.lrs[0]).settings


def _key(plan: Plan, row: PlannedRow) -> str:
    """Of all that a row's speed follows from."""
    settings = {**_settings(plan, replace(row, steps=_MOST_STEPS)), "lr": 0}
    settings["model"] = {**settings["model"], "lr": 0}
    beside = [plan.options.processes, plan.options.processes_per_gpu]
    return run_id({**settings, "beside": beside}, row.code)
