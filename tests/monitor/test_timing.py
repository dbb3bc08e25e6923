"""Times are of the work itself, and reading them never waits."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from tessera.monitor import Stopwatch, TimingProbe, TransferProbe
from tessera.transfers import to_host
from tests.waiting import no_waiting


class Slow(nn.Module):
    def forward(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


CPU = torch.device("cpu")


def test_a_forward_is_timed_and_each_time_is_read_once() -> None:
    model = Slow()
    probe = TimingProbe(model, CPU)
    model(0.0)
    assert probe.read() == {}  # not yet
    probe.begin()
    model(0.02)
    assert 20 <= probe.read()["time_forward"] < 200
    assert probe.read() == {}
    model(0.0)
    assert probe.read()["time_forward"] < 20
    probe.close()
    model(0.0)
    assert probe.read() == {}


def test_a_forward_that_raises_leaves_no_time() -> None:
    model = Slow()
    probe = TimingProbe(model, CPU)
    probe.begin()
    with pytest.raises(TypeError):
        model("not a number")
    assert probe.read() == {}
    model(0.0)
    assert probe.read()["time_forward"] < 20


def test_a_stopwatch_that_runs_has_no_time() -> None:
    watch = Stopwatch(CPU)
    assert watch.ms() is None
    with watch:
        assert watch.ms() is None
    assert watch.ms() is not None


@pytest.mark.gpu
def test_a_stopwatch_does_not_wait_for_the_gpu() -> None:
    watch = Stopwatch(torch.device("cuda"))
    torch.cuda.synchronize()
    with no_waiting():
        with watch:
            torch.cuda._sleep(500_000_000)  # about a quarter of a second of the GPU, at least
        assert watch.ms() is None
    torch.cuda.synchronize()
    ms = watch.ms()
    assert ms is not None and ms > 50


def test_copies_are_timed_by_owner_and_checkpoints_are_not_judged() -> None:
    probe = TransferProbe()
    try:
        assert probe.read() == {}
        for owner in ("logger", "logger", "checkpoint"):
            to_host(torch.zeros(1000), owner)
        values = probe.read()
        assert 0 < values["time_transfer"] <= values["time_transfer_max"]
        assert probe.read() == {}
        assert probe.total.num == 2 and probe.total.max_ms == values["time_transfer_max"]
        assert probe.total.mean_ms == pytest.approx(values["time_transfer"])
        assert {name: seen.num for name, seen in probe.by_owner.items()} == {
            "logger": 2,
            "checkpoint": 1,
        }
        to_host(torch.zeros(1000), "checkpoint")
        assert probe.read() == {}
    finally:
        probe.close()
    to_host(torch.zeros(3), "logger")
    assert probe.read() == {} and probe.total.num == 2
