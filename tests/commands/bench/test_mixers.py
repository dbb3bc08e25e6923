"""``tessera bench mixers``: every mixer's step beside Mamba's; what is absent says why."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.cuda._utils import _get_device_index

from tessera import cli
from tessera.commands.bench import command, mixers_command, mixers_process
from tessera.commands.bench.fresh_process import TookTooLongError
from tessera.commands.bench.mixers_command import speeds_of
from tessera.commands.bench.mixers_process import OUT_OF_MEMORY, Asked, Ready, prepared
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.model.settings import part_names

ASKED = Asked(3, 8, 2, 2, 6, "cpu", 0.001, 3)


def test_mixers_are_timed_in_processes_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mixers.json"
    options = ["--mixers", "identity", "--beside", "2", "--seconds", "0.01", "--d_model", "8"]
    assert command.main(["mixers", *options, "--device", "cpu", "--json", str(file)]) == 0
    printed, said = capsys.readouterr()
    report = json.loads(file.read_text())
    mamba, identity = report["speeds"]
    assert (mamba["mixer"], identity["mixer"]) == ("mamba", "identity")
    assert mamba["of_mamba"] == 1 and 0 < identity["step_s"] < mamba["step_s"]
    assert identity["of_mamba"] == identity["step_s"] / mamba["step_s"]
    sizes = {name: report["asked"][name] for name in ("batch_size", "length", "n_layers")}
    assert sizes == {"batch_size": 4, "length": 32, "n_layers": 2}
    model = Asked(**report["asked"]).model("mamba")
    assert mamba["ready"]["parameters"] == model.num_parameters()
    assert mamba["ready"]["peak_mb"] is None
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["identity", "mamba"]
    assert lines[-1].split()[-1] == "plain" and " 1.00 " in lines[-1]
    assert [line.partition(": ")[0] for line in said.splitlines()] == ["1 of 2", "2 of 2"]


class Processes:
    """Stand in for the processes; notes what they are told, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.timeouts: list[float] = []  # of those that were waited for
        self.faults: dict[tuple[str, str], Callable[[], Any]] = {}
        self.steps: dict[str, str] = {}  # how the first one of a mixer runs
        monkeypatch.setattr(mixers_command, "MixerProcess", lambda: Process(self))


class Process:
    mixer = ""

    def __init__(self, all_of_them: Processes) -> None:
        self.all_of_them = all_of_them

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def begin(self, mixer: str, asked: Asked) -> None:
        self.mixer = mixer
        self._noted("begin")

    def ready(self, timeout_s: float) -> Ready:
        self.all_of_them.timeouts.append(timeout_s)
        self._noted("ready")
        return Ready(10, 1.0, 5.0, self.all_of_them.steps.pop(self.mixer, "CUDA graph"))

    def times(self, timeout_s: float) -> list[float]:
        self._noted("time")
        return [0.002, 0.001, 0.004]

    def end(self) -> None:
        if self.mixer:
            self._noted("end")
            self.mixer = ""

    def _noted(self, what: str) -> None:
        self.all_of_them.told.append(f"{what} {self.mixer}")
        if fault := self.all_of_them.faults.get((what, self.mixer)):
            fault()


def raising(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    return Processes(monkeypatch)


def test_some_are_compiled_at_once_and_each_is_timed_alone(processes: Processes) -> None:
    found = list(speeds_of(["a", "b", "c"], ASKED, 2, 60.0))
    assert [speed.step_s for speed in found] == [0.002] * 3
    first = ["begin a", "begin b", "ready a", "ready b", "time a", "end a", "time b", "end b"]
    assert processes.told == [*first, "begin c", "ready c", "time c", "end c"]
    # As many at once as it takes for no more turns than need be.
    processes.told.clear()
    list(speeds_of(list("abcde"), ASKED, 4, 60.0))
    assert [told for told in processes.told if told[-1] in "cd"][:2] == ["begin c", "ready c"]
    # What one took of the time the others have no more.
    assert processes.timeouts[0] > processes.timeouts[1] > 59


def test_what_is_too_much_memory_at_once_is_tried_alone(processes: Processes) -> None:
    def runs_out() -> None:
        if processes.told.count("begin b") == 1:
            raise NotMeasuredError(OUT_OF_MEMORY)

    processes.faults = {("ready", "b"): runs_out}
    found = list(speeds_of(["a", "b"], ASKED, 2, 60.0))
    assert [(speed.mixer, speed.step_s) for speed in found] == [("a", 0.002), ("b", 0.002)]
    processes.faults = {("time", "b"): raising(NotMeasuredError(OUT_OF_MEMORY))}
    found = list(speeds_of(["a", "b"], ASKED, 2, 60.0))
    assert [speed.missing for speed in found] == ["", OUT_OF_MEMORY]


def test_a_step_that_was_no_graph_for_want_of_memory_is_tried_alone(processes: Processes) -> None:
    why = "training steps are launched one kernel at a time: CUDA out of memory. Tried to allocate"
    processes.steps = {"b": why}
    found = list(speeds_of(["a", "b"], ASKED, 2, 60.0))
    assert [(s.mixer, s.ready and s.ready.step) for s in found] == [
        ("a", "CUDA graph"),
        ("b", "CUDA graph"),
    ]
    processes.steps = {"b": why}
    (alone,) = speeds_of(["b"], ASKED, 2, 60.0)
    assert alone.ready is not None and alone.ready.step == why and alone.step_s == 0.002


def test_a_mixer_that_takes_too_long_or_fails_has_a_row_that_says_why(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.faults = {
        ("ready", "attention"): raising(TookTooLongError()),
        ("time", "bk_core"): raising(TookTooLongError()),
        ("ready", "mamba2"): raising(NotMeasuredError("no kernels")),
    }
    options = ["--mixers", "attention,bk_core,mamba2,identity", "--timeout", "7.5"]
    options += ["--beside", "5"]
    assert command.main(["mixers", *options, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert {line.split()[0] for line in lines[:2]} == {"mamba", "identity"}
    assert lines[2:] == [
        "attention  not timed: it was not compiled within 7.5 s",
        "bk_core    not timed: it was not timed within 7.5 s",
        "mamba2     not timed: no kernels",
    ]
    # One that is still compiling takes no time from those that are timed.
    assert processes.told.index("end attention") < processes.told.index("time mamba")


def test_without_mamba_there_is_no_ratio(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.faults = {("ready", "mamba"): raising(NotMeasuredError("lost"))}
    assert command.main(["mixers", "--mixers", "identity", "--device", "cpu"]) == 0
    identity, mamba = capsys.readouterr().out.splitlines()[-2:]
    assert " –  " in identity and mamba.split(maxsplit=1) == ["mamba", "not timed: lost"]


def test_a_signal_leaves_what_was_timed(
    processes: Processes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.faults = {("time", "attention"): lambda: os.kill(os.getpid(), signal.SIGTERM)}
    file = tmp_path / "mixers.json"
    options = ["--mixers", "attention", "--device", "cpu", "--json", str(file)]
    assert cli.main(["bench", "mixers", *options]) == 128 + signal.SIGTERM
    printed, said = capsys.readouterr()
    assert printed.splitlines()[-1].startswith("mamba") and "2.00" in printed
    assert said.splitlines()[-1] == "tessera: stopped by SIGTERM."
    assert [speed["mixer"] for speed in json.loads(file.read_text())["speeds"]] == ["mamba"]


def test_a_file_has_every_row_as_soon_as_it_is_there(
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    held, file = list[Any](), Path("mixers.json")
    options = ["mixers", "--mixers", "attention", "--device", "cpu", "--json"]
    processes.faults = {("time", "attention"): lambda: held.append(json.loads(file.read_text()))}
    assert command.main([*options, str(file)]) == 0
    assert [speed["mixer"] for speed in held[0]["speeds"]] == ["mamba"]
    capsys.readouterr()
    processes.faults = {}
    assert command.main([*options, "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["speeds"]) == 2
    assert os.listdir() == ["mixers.json"]


@pytest.mark.parametrize(
    ("free_gib", "cores", "at_once"), [(100, 16, 6), (100, 5, 2), (8, 16, 1), (100, 1, 1)]
)
def test_as_many_are_compiled_at_once_as_memory_and_cores_allow(
    free_gib: int, cores: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free_gib * 2**30, 141 * 2**30))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert mixers_command._beside(torch.device("cuda")) == at_once
    assert mixers_command._beside(torch.device("cpu")) == 1


def test_all_mixers_are_timed_unless_some_are_named(processes: Processes) -> None:
    assert command.main(["mixers", "--device", "cpu"]) == 0
    timed = [told.split()[1] for told in processes.told if told.startswith("time ")]
    assert timed == part_names("mixer")


def test_a_step_trains() -> None:
    ready, times = prepared("attention", ASKED)
    assert ready.parameters == ASKED.model("attention").num_parameters()
    assert (ready.peak_mb, ready.step) == (None, "plain")
    assert len(times()) == 3 and all(seconds > 0 for seconds in times())


def answers(question: str, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    sys.stdin = io.StringIO(question)
    try:
        assert mixers_process.main() == 0
    finally:
        sys.stdin = sys.__stdin__
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_process_times_only_once_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {name: getattr(ASKED, name) for name in Asked.__slots__}
    question = json.dumps({"mixer": "identity", **asked}) + "\n"
    (ready,) = answers(question, capsys)
    assert ready["step"] == "plain"
    _, times = answers(question + "{}\n", capsys)
    assert len(times["seconds"]) == ASKED.runs
    (missing,) = answers(json.dumps({"mixer": "attention", **asked, "d_model": 3}), capsys)
    why = "attention.num_heads must divide d_model, 3, into even widths, got 1."
    assert missing == {"missing": why}
    assert answers("", capsys) == []


def test_what_a_step_runs_as_is_what_the_program_says() -> None:
    with mixers_process._Warnings() as warnings:
        assert warnings.how_steps_run() == "CUDA graph"
        logging.getLogger("tessera.model.backend").warning("scan=auto runs torch")
        assert warnings.how_steps_run() == "CUDA graph; scan=auto runs torch"
        logging.getLogger("tessera.model.graphs").warning("launched one at a time: why")
        assert warnings.how_steps_run() == "scan=auto runs torch; launched one at a time: why"


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_is_chosen_by_its_number(
    monkeypatch: pytest.MonkeyPatch, device: str, index: int
) -> None:
    class Chosen(Exception): ...

    def set_device(device: Any) -> None:
        # As torch looks at it: "cuda" alone is refused.
        raise Chosen(_get_device_index(device))

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    with pytest.raises(Chosen) as chosen:
        prepared("identity", replace(ASKED, device=device))
    assert chosen.value.args == (index,)


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_steps_on_a_gpu_are_cuda_graphs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mixers.json"
    options = ["--mixers", "attention,context_token", "--seconds", "0.1", "--d_model", "64"]
    options += ["--batch_size", "8", "--length", "32", "--n_layers", "2", "--beside", "3"]
    assert command.main(["mixers", *options, "--device", "cuda", "--json", str(file)]) == 0
    speeds = json.loads(file.read_text())["speeds"]
    assert [speed["mixer"] for speed in speeds] == ["mamba", "attention", "context_token"]
    for speed in speeds:
        assert speed["missing"] == "" and speed["ready"]["step"] == "CUDA graph", speed
        assert speed["ready"]["peak_mb"] > 0 and len(speed["seconds"]) == 5
