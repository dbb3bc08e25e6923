"""A comparison as it goes on: what is done, what comes next, and what went wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tessera.commands.compare.plan import GRID, Plan, Run
from tessera.commands.compare.store import (
    DONE,
    FAILED,
    INTERRUPTED,
    PLANNED,
    RUNNING,
    Store,
    lines_of,
)
from tessera.commands.compare.sweep import Sweep


@dataclass
class Standing:
    """How a run stands.

    Attributes:
        run: which.
        status: one of runs.csv.
        reason: why it failed.
        result: as in result.json, once it is done.
    """

    run: Run
    status: str
    reason: str = ""
    result: dict[str, Any] | None = None


class Comparison:
    """All runs of a plan; those that an earlier call has finished are taken over.

    Args:
        plan: whose rows all have their steps.
        store: of its folder, which need not be there yet.

    Attributes:
        standings: by run_id, rows in their order.
        num_reused: runs that were finished before.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self._store = plan, store
        self._sweeps = {row.name: Sweep(plan, row) for row in plan.rows}
        self.standings: dict[str, Standing] = {}
        for sweep in self._sweeps.values():
            self._extend(sweep)
        self.num_reused = sum(each.status in (DONE, FAILED) for each in self.standings.values())

    @property
    def num_runs(self) -> int:
        """All runs, as far as it is known how many there will be."""
        return len(self.standings) + sum(each.num_to_come for each in self._sweeps.values())

    @property
    def num_over(self) -> int:
        """Runs that are done or have failed."""
        return sum(each.status in (DONE, FAILED) for each in self.standings.values())

    @property
    def rows_done(self) -> set[str]:
        """Names of the rows that a finished run tells the time of."""
        return {each.run.row for each in self.standings.values() if each.status == DONE}

    @property
    def failures(self) -> list[str]:
        """What went wrong, a line for each row that lacks something it was to report."""
        lines = []
        for name, sweep in self._sweeps.items():
            if sweep.failure:
                lines.append(f"{name}: {sweep.failure}")
            lines += [
                f"{name}, seed {each.run.seed}: {each.reason}"
                for each in self.standings.values()
                if each.status == FAILED and each.run.row == name and each.run.phase != GRID
            ]
        return lines

    def pending(self) -> list[Run]:
        """Runs that can begin now, in the order of the rows."""
        order = {name: nth for nth, name in enumerate(self._sweeps)}
        runs = [each.run for each in self.standings.values() if each.status == PLANNED]
        return sorted(runs, key=lambda run: order[run.row])

    def begin(self, run: Run) -> None:
        """Note that a run is under way."""
        self.standings[run.run_id].status = RUNNING

    def finish(self, run: Run) -> None:
        """Take over what a run has written."""
        result = self._store.result(run)
        if result is None:
            self.fail(run, "it left no result", is_final=False)
        else:
            self._note(run, DONE, result=result)

    def fail(self, run: Run, reason: str, is_final: bool) -> None:
        """Note that a run has failed.

        Args:
            run: which.
            reason: why.
            is_final: whether it need not be tried again by the next call.
        """
        if is_final:
            self._store.fail(run, reason)
        self._note(run, FAILED, reason)

    def interrupt(self) -> None:
        """Note that whatever was under way is no more."""
        for each in self.standings.values():
            if each.status == RUNNING:
                each.result = self._store.result(each.run)  # it may just have come to its end
                each.status = INTERRUPTED if each.result is None else DONE

    def write(self) -> None:
        """Write runs.csv."""
        self._store.write_runs(line for sweep in self._sweeps.values() for line in self._of(sweep))

    def job(self, run: Run) -> dict[str, Any]:
        """What a worker is told of a run."""
        options = self.plan.options
        is_gpu = run.settings["trainer"]["accelerator"] == "gpu"
        num_beside = options.processes_per_gpu if is_gpu else options.processes
        return {
            "settings": run.settings,
            "folder": str(self._store.of(run)),
            "counted": self._sweeps[run.row].row.counted,
            "has_device": num_beside == 1,
        }

    def _of(self, sweep: Sweep) -> Iterator[dict[str, Any]]:
        for run in sweep.runs():
            each = self.standings[run.run_id]
            edge = None if run.phase == GRID else sweep.is_at_edge
            known = sweep.row.counted
            yield from lines_of(run, each.status, each.reason, edge, known, each.result)

    def _note(
        self, run: Run, status: str, reason: str = "", result: dict[str, Any] | None = None
    ) -> None:
        self.standings[run.run_id] = Standing(run, status, reason, result)
        sweep = self._sweeps[run.row]
        self._tell(sweep, self.standings[run.run_id])
        self._extend(sweep)

    def _extend(self, sweep: Sweep) -> None:
        """Add the runs that have become known, and what is on the disk of them."""
        has_news = True
        while has_news:
            has_news = False
            for run in sweep.runs():
                if run.run_id not in self.standings:
                    has_news = True
                    self.standings[run.run_id] = self._found(run)
                    self._tell(sweep, self.standings[run.run_id])

    def _found(self, run: Run) -> Standing:
        if (result := self._store.result(run)) is not None:
            return Standing(run, DONE, result=result)
        if (reason := self._store.failure(run)) is not None:
            return Standing(run, FAILED, reason)
        return Standing(run, PLANNED)

    def _tell(self, sweep: Sweep, each: Standing) -> None:
        if each.status == DONE:
            assert each.result is not None
            sweep.note(each.run, each.result["figures"].get("excess_nats"), "nothing was measured")
        elif each.status == FAILED:
            sweep.note(each.run, None, each.reason)


@contextlib.contextmanager
def kept(comparison: Comparison) -> Iterator[None]:
    """Write runs.csv at the end of the ``with`` statement, however it ends."""
    try:
        yield
    except BaseException:
        comparison.interrupt()
        raise
    finally:
        comparison.write()
