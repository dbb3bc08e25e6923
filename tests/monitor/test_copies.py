"""Copies are found in a profiler's record, with the operator that launched them and their owner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.profiler import profile, record_function

from tessera.monitor import Copy, CopyProbe
from tessera.monitor.copies import TraceEvent, find_copies, read_trace

HOST, OTHER, GPU = ("100", "100"), ("100", "101"), ("0", "7")


def op(name: str, start: float, us: float, thread: tuple[str, str] = HOST) -> TraceEvent:
    category = "user_annotation" if name.startswith("tessera.") else "cpu_op"
    return TraceEvent(name, category, thread, start, us)


def memcpy(
    name: str, correlation: int, at: float, num_bytes: int, thread: tuple[str, str] = HOST
) -> list[TraceEvent]:
    """A call of CUDA, and what it does later on the GPU."""
    call = TraceEvent("cudaMemcpyAsync", "cuda_runtime", thread, at, 5.0, correlation)
    copy = TraceEvent(name, "gpu_memcpy", GPU, at + 100, 2.5, correlation, num_bytes)
    return [copy, call]


def test_a_copy_is_named_by_its_innermost_operator() -> None:
    events = [
        *memcpy("Memcpy DtoH (Device -> Pageable)", 7, 13.0, 4),
        op("aten::to", 10.0, 30.0),
        op("aten::_to_copy", 11.0, 28.0),
        op("aten::empty_strided", 11.5, 0.5),
        op("aten::copy_", 12.5, 20.0),
        op("aten::add", 50.0, 9.0),
    ]
    path = ("aten::to", "aten::_to_copy", "aten::copy_", "cudaMemcpyAsync")
    assert find_copies(events) == [Copy("aten::copy_", "DtoH", 4, 0.0025, None, path)]


def test_a_copy_within_an_owners_label_is_the_owners() -> None:
    events = [
        op("tessera.transfer/outer", 0.0, 100.0),
        op("tessera.transfer/logger", 10.0, 50.0),
        op("aten::item", 11.0, 40.0),
        op("aten::_local_scalar_dense", 12.0, 30.0),
        *memcpy("Memcpy DtoH (Device -> Pageable)", 1, 13.0, 8),
        *memcpy("Memcpy HtoD (Pinned -> Device)", 2, 90.0, 16),
        *memcpy("Memcpy HtoD (Pageable -> Device)", 3, 101.0, 32),
    ]
    found = [(copy.operator, copy.direction, copy.owner) for copy in find_copies(events)]
    assert found == [
        ("aten::_local_scalar_dense", "DtoH", "logger"),
        ("cudaMemcpyAsync", "HtoD", "outer"),
        ("cudaMemcpyAsync", "HtoD", None),
    ]


def test_only_copies_between_host_and_gpu_count() -> None:
    names = ["Memcpy DtoD (Device -> Device)", "Memcpy PtoP (Device -> Device)", "Memcpy"]
    events = [event for n, name in enumerate(names) for event in memcpy(name, n, 10.0 * n, 8)]
    kernel = TraceEvent("Memcpy DtoH", "kernel", GPU, 1.0, 1.0, 9)
    assert find_copies([*events, kernel]) == []


def test_of_what_begins_at_once_the_longer_holds_the_shorter() -> None:
    events = [
        op("aten::_local_scalar_dense", 10.0, 20.0),
        op("aten::item", 10.0, 30.0),
        *memcpy("Memcpy DtoH (Device -> Pageable)", 1, 10.0, 8),
    ]
    (copy,) = find_copies(events)
    assert copy.path[:2] == ("aten::item", "aten::_local_scalar_dense")
    assert copy.operator == "aten::_local_scalar_dense"


def test_a_copy_on_another_thread_is_not_what_runs_beside_it() -> None:
    events = [
        op("tessera.transfer/logger", 0.0, 100.0),
        op("autograd::engine::evaluate_function: MulBackward0", 20.0, 50.0, OTHER),
        *memcpy("Memcpy HtoD (Pageable -> Device)", 1, 30.0, 8, OTHER),
    ]
    (copy,) = find_copies(events)
    assert copy.owner is None and copy.operator.endswith("MulBackward0")


def test_a_copy_whose_launch_was_not_recorded_is_still_found() -> None:
    (copy,) = find_copies(memcpy("Memcpy HtoD (Pageable -> Device)", 1, 1.0, 8)[:1])
    assert (copy.operator, copy.owner, copy.path) == ("unknown", None, ())


def test_copies_are_in_the_order_of_their_launches() -> None:
    later = memcpy("Memcpy HtoD (Pageable -> Device)", 2, 50.0, 2)
    earlier = memcpy("Memcpy HtoD (Pageable -> Device)", 1, 10.0, 1)
    assert [copy.num_bytes for copy in find_copies([*later, *earlier])] == [1, 2]


def record(path: Path) -> dict[str, Any]:
    """A real trace, made on the CPU."""
    with profile(use_kineto=True) as recorder:
        tensor = torch.arange(5)
        with record_function("tessera.transfer/logger"):
            tensor[2].item()
        tensor.double()
    recorder.export_chrome_trace(str(path))
    return json.loads(path.read_text())


def test_a_real_trace_is_read_together_with_what_a_gpu_adds_to_it(tmp_path: Path) -> None:
    trace = record(tmp_path / "trace.json")
    scalar, cast = (
        next(e for e in trace["traceEvents"] if e["name"] == name)
        for name in ("aten::_local_scalar_dense", "aten::_to_copy")
    )
    # As an H100's record has them: the call on the operator's thread, the copy on a stream.
    for number, (at, name) in enumerate([(scalar, "DtoH (Device -> Pageable)"), (cast, "HtoD")]):
        begin = at["ts"] + at["dur"] / 2
        call = {"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpyAsync", "ts": begin}
        call |= {"pid": at["pid"], "tid": at["tid"], "dur": 0.001}
        call["args"] = {"External id": 4, "cbid": 41, "correlation": 900 + number}
        copy = {"ph": "X", "cat": "gpu_memcpy", "name": f"Memcpy {name}", "pid": 0, "tid": 7}
        copy |= {"ts": begin + 40, "dur": 1.5}
        copy["args"] = {"device": 0, "stream": 7, "correlation": 900 + number, "bytes": 8}
        trace["traceEvents"] += [copy, call]
    logged, planted = find_copies(read_trace(trace))
    assert (logged.direction, logged.num_bytes, logged.owner) == ("DtoH", 8, "logger")
    assert logged.operator == "aten::_local_scalar_dense" and logged.ms == 0.0015
    assert planted.owner is None and planted.direction == "HtoD"
    assert planted.path[:2] == ("aten::to", "aten::_to_copy")
    assert "8 bytes" in str(planted) and "aten::to > aten::_to_copy" in str(planted)


def test_a_cpu_says_why_there_are_no_copies() -> None:
    probe = CopyProbe(torch.device("cpu"))
    assert "nothing is copied" in probe.why_absent["unowned_copies"]
    assert not probe.is_recording


@pytest.mark.gpu
def test_planted_copies_are_found_on_the_gpu_and_owned_ones_are_known() -> None:
    from tessera.transfers import begin_to_host, owned, subscribe, to_host

    unsubscribe = subscribe(lambda transfer: None)
    probe = CopyProbe(torch.device("cuda"))
    tensor = torch.ones(1000, device="cuda")
    try:
        probe.start()
        tensor.mul(2)
        assert probe.is_recording and probe.stop() == []
        probe.start()
        to_host(tensor, "logger")
        begin_to_host(tensor, "monitor")
        with owned("picture"):
            tensor.sum().item()
        tensor.cpu()
        torch.tensor(3.0, device="cuda")
        tensor.nonzero()
        copies = probe.stop()
    finally:
        unsubscribe()
    assert [copy.owner for copy in copies[:3]] == ["logger", "monitor", "picture"]
    assert [copy.num_bytes for copy in copies[:4]] == [4000, 4000, 4, 4000]
    unowned = [(copy.direction, copy.owner) for copy in copies[3:]]
    assert unowned[:2] == [("DtoH", None), ("HtoD", None)]
    assert {direction for direction, _ in unowned[2:]} == {"DtoH"}
    assert copies[3].operator == "aten::copy_" and "aten::to" in copies[3].path
    assert all(0 < copy.ms < 10 for copy in copies)
