"""Copies have an owner and a time, and cost nothing while nobody listens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.autograd.profiler import profile

from tessera.transfers import PendingTransfer, begin_to_host, owned, subscribe, to_host


def test_what_is_copied_arrives() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    assert torch.equal(to_host(tensor, "test"), tensor)
    copy = begin_to_host(tensor, "test")
    tensor.zero_()
    arrived = copy.result()
    assert arrived is not None and arrived.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_a_listener_is_told_of_every_copy_until_it_unsubscribes() -> None:
    first: list[PendingTransfer] = []
    second: list[PendingTransfer] = []
    unsubscribe, end = subscribe(first.append), subscribe(second.append)
    try:
        to_host(torch.zeros(3), "logger")
        begin_to_host(torch.zeros(3), "monitor")
        unsubscribe()
        unsubscribe()
        to_host(torch.zeros(3), "checkpoint")
    finally:
        end()
    assert [transfer.owner for transfer in first] == ["logger", "monitor"]
    assert [transfer.owner for transfer in second] == ["logger", "monitor", "checkpoint"]
    for pending in second:
        transfer = pending.resolve()
        # Nothing is moved between two memories on a CPU.
        assert transfer is not None and transfer.num_bytes == 0
        assert 0 < transfer.ms < 1000


def labels(path: Path, is_listened_to: bool) -> list[str]:
    """Annotations that a profiler sees, each with what happened inside it."""
    unsubscribe = subscribe(lambda transfer: None) if is_listened_to else lambda: None
    try:
        with profile(use_kineto=True) as recorder:
            to_host(torch.zeros(3), "logger")
            with owned("picture"):
                torch.zeros(3).double()
    finally:
        unsubscribe()
    recorder.export_chrome_trace(str(path / "trace.json"))
    events = json.loads((path / "trace.json").read_text())["traceEvents"]
    return [event["name"] for event in events if event.get("cat") == "user_annotation"]


def test_a_profiler_sees_whose_a_copy_is_while_somebody_listens(tmp_path: Path) -> None:
    assert labels(tmp_path, True) == ["tessera.transfer/logger", "tessera.transfer/picture"]
    assert labels(tmp_path, False) == []


@pytest.mark.gpu
def test_a_copy_from_the_gpu_is_timed_without_waiting_for_it() -> None:
    pending: list[PendingTransfer] = []
    unsubscribe = subscribe(pending.append)
    try:
        tensor = torch.ones(1024, device="cuda")
        torch.cuda.synchronize()
        torch.cuda._sleep(200_000_000)  # about a tenth of a second of the GPU
        copy = begin_to_host(tensor, "monitor")
        assert copy.result() is None and pending[0].resolve() is None
        assert torch.equal(to_host(tensor, "logger"), torch.ones(1024))
    finally:
        unsubscribe()
    torch.cuda.synchronize()
    arrived = copy.result()
    assert arrived is not None and torch.equal(arrived, torch.ones(1024))
    for transfer in (pending[0].resolve(), pending[1].resolve()):
        # The queue before the copy does not count.
        assert transfer is not None and transfer.num_bytes == 4096 and 0 < transfer.ms < 1
