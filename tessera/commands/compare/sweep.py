"""Which runs of a row come next: the grid of learning rates, more of them, then those reported."""

from __future__ import annotations

from tessera.commands.compare.plan import GRID, REPORT, Plan, PlannedRow, Run

_DIGITS = 6  # of a learning rate that a grid is extended by


class Sweep:
    """One row's runs; each depends on what those before it found.

    Args:
        plan: of the comparison.
        row: one of its rows.

    Attributes:
        row: as given.
        lr: the chosen learning rate; None as long as there is none.
        is_at_edge: whether the best lies at an edge of all that were tried; None if only one was.
        failure: why the row cannot be reported at all; empty if it can.
    """

    def __init__(self, plan: Plan, row: PlannedRow) -> None:
        self.row, self._plan = row, plan
        self._losses: dict[float, float | None] = {}  # by learning rate; None is a failed run
        self._asked = list(row.lrs)
        self._reasons: list[str] = []
        self._extensions_left = plan.options.lr_extensions
        self.lr: float | None = row.lrs[0] if len(row.lrs) == 1 else None
        self.is_at_edge: bool | None = None
        self.failure = ""

    def note(self, run: Run, excess_nats: float | None, reason: str = "") -> None:
        """Take over how a run has ended.

        Args:
            run: of this row.
            excess_nats: what it was worth; None if it failed.
            reason: why it failed.
        """
        if run.phase == GRID:
            self._losses[run.lr] = excess_nats
            if excess_nats is None:
                self._reasons.append(reason)
            self._choose()

    def runs(self) -> list[Run]:
        """All runs of the row that are known by now, in order."""
        plan, row = self._plan, self.row
        runs = []
        if len(row.lrs) > 1:
            runs = [plan.run(row, GRID, plan.grid_seed, lr) for lr in sorted(self._asked)]
        if self.lr is not None:
            runs += [plan.run(row, REPORT, seed, self.lr) for seed in plan.options.seeds]
        return runs

    @property
    def num_to_come(self) -> int:
        """Reported runs that are not known yet, because the learning rate is not."""
        return 0 if self.lr is not None or self.failure else len(self._plan.options.seeds)

    def _choose(self) -> None:
        """Choose the learning rate once all are there, or ask for one more."""
        if len(self._losses) < len(self._asked):
            return
        worked = {lr: loss for lr, loss in self._losses.items() if loss is not None}
        if not worked:
            self.failure = f"no learning rate trains it: {self._reasons[0]}"
            return
        best = min(worked, key=lambda lr: (worked[lr], lr))
        rates = sorted(self._losses)
        edge = best in (rates[0], rates[-1])
        if edge and self._extensions_left:
            self._extensions_left -= 1
            self._asked.append(_beyond(rates, best))
            return
        self.lr, self.is_at_edge = best, edge


def _beyond(rates: list[float], edge: float) -> float:
    """The next learning rate behind an edge of the grid, by its own factor there."""
    inner = rates[1] if edge == rates[0] else rates[-2]
    return float(f"{edge * edge / inner:.{_DIGITS}g}")
