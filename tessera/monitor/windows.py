"""When the copies of some steps are recorded, within a budget of time."""

from __future__ import annotations

import time

import torch

from tessera.monitor.copies import Copy, CopyProbe

_FIRST = 9  # the step of a run that the first window begins with; before it things warm up


class CopyWindows:
    """Records the copies of a few steps from time to time; see ``CopyProbe``.

    A window goes from the beginning of a step to the beginning of another, so that what happens
    between two steps (fetching a batch, logging, a checkpoint, a validation) is in it.

    Args:
        device: that trains.
        every: steps from one window's beginning to the next one's, at least; 0 for no windows.
        steps: of a window.
        time_ratio: of the run's time that starting and ending windows may take; the next window
            waits until they are below it. The first one is always made.

    Attributes:
        metrics: the names of what is measured.
        num_steps: recorded so far.
        why_absent: for ``unowned_copies`` where it cannot be measured, why.
    """

    metrics = ("unowned_copies",)

    def __init__(self, device: torch.device, every: int, steps: int, time_ratio: float) -> None:
        self.num_steps = 0
        self._probe = CopyProbe(device)
        self.why_absent = dict(self._probe.why_absent)
        if not every:
            self.why_absent = {"unowned_copies": "monitor.copies_every is 0"}
        self._every, self._steps, self._time_ratio = every, steps, time_ratio
        self._next: int | None = None  # the step of the next window
        self._first = 0  # the step of the window that is being recorded
        self._began = time.perf_counter()
        self._spent_s = 0.0

    @property
    def is_recording(self) -> bool:
        """Whether this step is recorded."""
        return self._probe.is_recording

    def begin_step(self, step: int) -> list[Copy] | None:
        """Start or end a window if it is time to; returns the copies of one that was ended.

        Args:
            step: that is about to be made, counted from 1.
        """
        if self.why_absent:
            return None
        if self._next is None:
            self._next = step + _FIRST - 1
        copies = self.end(step) if step >= self._first + self._steps else None
        budget_s = self._time_ratio * (time.perf_counter() - self._began)
        if not self.is_recording and step >= self._next and self._spent_s <= budget_s:
            began = time.perf_counter()
            self._probe.start()
            self._first, self._next = step, step + self._every
            self._spent_s += time.perf_counter() - began
        return copies

    def end(self, step: int) -> list[Copy] | None:
        """End a window before the given step; returns its copies, None if there was no window."""
        if not self.is_recording:
            return None
        began = time.perf_counter()
        copies = self._probe.stop()
        self._spent_s += time.perf_counter() - began
        self.num_steps += step - self._first
        return copies

    def close(self) -> None:
        """Drop a window that was not ended."""
        self._probe.close()
