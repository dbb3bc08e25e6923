"""What a person sees while a comparison goes on: one bar over all runs, or a line for each."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from tessera.commands.compare.comparison import Comparison, Standing
from tessera.commands.compare.plan import GRID, Run
from tessera.commands.compare.store import FAILED

_BAR = "{desc} {n:.1f}/{total:.0f} runs |{bar}| {elapsed}, {remaining} left{postfix}"
_REFRESH_S = 0.5


class Progress:
    """Runs done, and how far those under way have come, on the standard error stream.

    Args:
        comparison: which.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._parts: dict[str, float] = {}  # done of each run under way
        self._done_before, self._start = comparison.num_over, time.monotonic()
        size = shutil.get_terminal_size((100, 24))
        self._bar: Any = tqdm(
            total=comparison.num_runs,
            initial=comparison.num_over,
            desc="comparing",
            file=sys.stderr,
            disable=None,  # where it is not a terminal
            ncols=size.columns or 100,
            nrows=size.lines or 24,
            mininterval=_REFRESH_S,
            bar_format=_BAR,
        )
        self._shown = 0.0

    def move(self, run: Run, told: Mapping[str, Any]) -> None:
        """Show how far a run has come.

        Args:
            run: which.
            told: its ``step``, ``steps`` and ``excess_nats``.
        """
        self._parts[run.run_id] = told["step"] / told["steps"]
        excess = told["excess_nats"]
        text = f"{_named(run)}" + ("" if excess is None else f": excess_nats {excess:.3f}")
        self._show(text)

    def end(self, each: Standing) -> None:
        """Show how a run has ended."""
        self._parts.pop(each.run.run_id, None)
        if self._bar.disable or each.status == FAILED:
            done, number = self._comparison.num_over, self._comparison.num_runs
            line = f"{done}/{number} {_named(each.run)}: {_outcome(each)}"
            tqdm.write(line + self._left(done, number), file=sys.stderr)
        self._show("")

    def close(self) -> None:
        """Leave the bar."""
        self._bar.close()

    def _show(self, text: str) -> None:
        bar, now = self._bar, time.monotonic()
        if bar.disable or now - self._shown < _REFRESH_S:
            return
        self._shown = now
        bar.total = self._comparison.num_runs
        bar.n = self._comparison.num_over + sum(self._parts.values())
        bar.set_postfix_str(text, refresh=False)
        bar.refresh()

    def _left(self, done: int, number: int) -> str:
        here = done - self._done_before
        if done == number or not here:
            return ""
        left_s = (time.monotonic() - self._start) / here * (number - done)
        return f"  {tqdm.format_interval(left_s)} left"


def _named(run: Run) -> str:
    what = "grid" if run.phase == GRID else f"seed {run.seed}"
    return f"{run.row}, lr {run.lr:g}, {what}"


def _outcome(each: Standing) -> str:
    if each.result is None:
        return f"failed, {each.reason}"
    figures = each.result["figures"]
    parts = [f"excess_nats {figures['excess_nats']:.4f}"] if "excess_nats" in figures else []
    parts += [f"{figures['seconds']:.1f} s"] if "seconds" in figures else []
    return "  ".join(parts)
