"""What a person sees while ladders are trained: one bar over all steps, or a line for each rung."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

_BAR = "{desc} {percentage:.0f} % |{bar}| {elapsed}, {remaining} left{postfix}"
_REFRESH_S = 0.5  # on a terminal
_LINE_S = 10.0  # in a file


class LadderBar:
    """Steps made of all that are to be made, on the standard error stream.

    Args:
        steps: of all runs together.
    """

    def __init__(self, steps: int) -> None:
        size = shutil.get_terminal_size((100, 24))
        self._bar: Any = tqdm(
            total=max(1, steps),
            desc="scaling",
            file=sys.stderr,
            disable=None,  # where it is not a terminal
            ncols=size.columns or 100,
            nrows=size.lines or 24,
            mininterval=_REFRESH_S,
            bar_format=_BAR,
        )
        self._start = self._shown = time.monotonic()
        self._name = ""
        self._done = self._part = self._here = self._before = 0

    def begin(self, name: str, steps: int, before: int = 0) -> None:
        """Take up a run.

        Args:
            name: of the run.
            steps: that it has here.
            before: those that were made elsewhere.
        """
        self._done += self._here
        self._part, self._here, self._before = 0, steps, before
        self._name = name
        self._bar.set_postfix_str(name, refresh=False)

    def move(self, told: Mapping[str, Any]) -> None:
        """Show how far the run has come.

        Args:
            told: its ``step`` and ``steps``.
        """
        now = time.monotonic()
        self._part = max(0, told["step"] - self._before)
        bar = self._bar
        if now - self._shown < (_LINE_S if bar.disable else _REFRESH_S):
            return
        self._shown = now
        bar.n = self._done + self._part
        if bar.disable:
            line = f"{self._name}: step {told['step']}/{told['steps']}{self._left(bar.n)}"
            print(line, file=sys.stderr, flush=True)
        else:
            bar.refresh()

    def end(self, name: str, said: str) -> None:
        """Show what a run has found."""
        left = self._left(self._done + self._here) if self._bar.disable else ""
        tqdm.write(f"{name}: {said}{left}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar."""
        if not self._bar.disable:
            self._bar.n = min(self._bar.total, self._done + self._part)
            self._bar.set_postfix_str("", refresh=True)
        self._bar.close()

    def _left(self, done: int) -> str:
        if not 0 < done < self._bar.total:
            return ""
        left_s = (time.monotonic() - self._start) / done * (self._bar.total - done)
        return f"  {tqdm.format_interval(left_s)} left"
