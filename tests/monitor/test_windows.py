"""Copies are recorded from time to time, for as many steps as was said, within a budget of time."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from tessera.monitor.windows import CopyWindows
from tests.monitor.runs import RecordedCopies


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records on a machine without a GPU: one copy in every window."""
    monkeypatch.setattr("tessera.monitor.windows.CopyProbe", RecordedCopies)


def recorded(windows: CopyWindows, steps: range) -> tuple[list[int], list[int]]:
    """The steps that were recorded, and those before which a recording was read."""
    seen, read = [], []
    for step in steps:
        if windows.begin_step(step) is not None:
            read.append(step)
        if windows.is_recording:
            seen.append(step)
    return seen, read


def make(every: int, steps: int, time_ratio: float = 1.0) -> CopyWindows:
    return CopyWindows(torch.device("cpu"), every, steps, time_ratio)


def test_windows_begin_at_the_ninth_step_and_come_again() -> None:
    windows = make(every=20, steps=3)
    seen, read = recorded(windows, range(1, 61))
    assert seen == [9, 10, 11, 29, 30, 31, 49, 50, 51]
    assert read == [12, 32, 52] and windows.num_steps == 9


def test_a_resumed_run_warms_up_as_well() -> None:
    assert recorded(make(every=100, steps=1), range(501, 550))[0] == [509]


def test_recordings_without_a_gap_see_every_step() -> None:
    windows = make(every=4, steps=4)
    seen, read = recorded(windows, range(1, 30))
    assert seen == list(range(9, 30)) and read == [13, 17, 21, 25, 29]
    assert windows.end(30) == [RecordedCopies.copy] and windows.num_steps == 21
    assert windows.end(30) is None


def test_zero_is_never() -> None:
    windows = make(every=0, steps=3)
    assert recorded(windows, range(1, 60)) == ([], [])
    assert windows.why_absent == {"unowned_copies": "monitor.copies_every is 0"}


def test_a_recording_that_took_long_puts_off_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slowly(self: Any) -> None:
        now[0] += 2.0
        self.is_recording = True

    monkeypatch.setattr(RecordedCopies, "start", slowly)
    windows = make(every=10, steps=1, time_ratio=0.01)
    seen = []
    for step in range(1, 500):
        now[0] += 1.0  # a step takes a second
        windows.begin_step(step)
        if windows.is_recording:
            seen.append(step)
    # Two seconds are a hundredth of two hundred, four of four hundred.
    assert seen[0] == 9 and 195 <= seen[1] <= 200 and 390 <= seen[2] <= 400 and len(seen) == 3
