"""``tessera compare`` as a user types it: it trains, reports, and goes on where it was."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tessera.commands.compare import comparing
from tessera.commands.compare.pool import places
from tests.commands.compare.small_runs import write_three
from tests.runs import python_path, tessera

ROWS = ("--config", "three.yaml", "--mixers", "attention,mamba", "--folder", "out")
BRIEF = ("--tokens", "500", "--seeds", "1", "--lrs", "1e-2,1e30", "--lr_extensions", "0")


def lines(folder: Path) -> list[dict[str, str]]:
    """Those of runs.csv."""
    with open(folder / "out" / "runs.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_rows_are_trained_compared_and_taken_over(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(folder)
    (folder / "mamba.yaml").write_text("model: {mixer: mamba}")
    (folder / "wild.yaml").write_text("model: {weight_decay: 1.0e+30}")
    names = ["three.yaml", "three.yaml+mamba.yaml", "three.yaml+wild.yaml"]
    command = ["compare", *names, *BRIEF, "--folder", "out"]
    assert tessera(*command, "--test_on", "rules,uniform") == 1
    out, err = capfd.readouterr()
    assert "Excess on the games of training (3×3, uniform)" in out
    *progress, last = err.splitlines()
    assert [line.split("/")[0] for line in progress] == [str(nth) for nth in range(1, 9)]
    assert last.startswith(f"tessera: {names[2]}: no learning rate trains it: ")
    found = lines(folder)
    told = [(line["row"], line["phase"], line["status"], line["tested_on"]) for line in found]
    of_row = [("grid", "done", "same"), ("grid", "failed", "same"), ("report", "done", "same")]
    of_row.append(("report", "done", "rules"))
    expected = [(row, *each) for row in names[:2] for each in of_row]
    assert told == expected + [(names[2], "grid", "failed", "same")] * 2
    assert all(("not finite" in x["reason"]) == (x["status"] == "failed") for x in found)
    assert found[1]["excess_nats"] == "" != found[0]["excess_nats"]
    assert {line["lr_at_edge"] for line in found if line["phase"] == "report"} == {"true"}
    # The same games and steps, whatever is trained.
    for name in ("D", "steps", "floor_nats"):
        assert found[2][name] == found[6][name] != ""
    assert found[2]["C"] == str(3 * float(found[2]["flops_per_token"]) * int(found[2]["D"]))
    assert found[2]["peak_mb"] == ""  # of a GPU alone
    plan = json.loads((folder / "out" / "plan.json").read_text())
    assert [row["name"] for row in plan["rows"]] == names
    assert plan["test_on"] == ["rules"] and plan["baseline"] == names[0]
    # Whoever asks again gets the report, without a worker.
    report = (folder / "out" / "report.md").read_bytes()
    assert b"wild" in report
    monkeypatch.setattr(comparing, "places", lambda *_: [])
    assert tessera(*command, "--test_on", "rules,uniform") == 1
    assert capfd.readouterr() == (out, f"{last}\n")
    assert lines(folder) == found
    assert (folder / "out" / "report.md").read_bytes() == report
    # Tested on other games than before it is another run.
    assert tessera(*command[:1], *names[:2], *command[4:], "--dry-run", "--json", "-") == 0
    dry = json.loads(capfd.readouterr().out)
    assert [(row["runs"], row["done"]) for row in dry["rows"]] == [(3, 1), (3, 1)]
    assert dry["expected_s"] is None  # of no worker


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_three(folder)
    before = files(folder)
    options = ["--match", "params", "--baseline", "mamba", "--tokens", "1e5", "--dry-run"]
    options += ["--model.d_model", "16"]
    assert tessera("compare", *ROWS, *options, "--json", "out.json") == 0
    out, err = capfd.readouterr()
    assert err == "" and files(folder) == before | {"out.json"}
    heading, first, second, _, runs, expected = out.splitlines()
    assert "state bytes" in heading and "FLOPs/token" in heading
    assert first.startswith("attention") and second.startswith("mamba")
    assert runs.startswith("12 runs on 1 worker, and up to 2 more of each row")
    assert re.fullmatch(r"expected time: \d+:\d\d(:\d\d)?", expected)
    attention, mamba = json.loads((folder / "out.json").read_text())["rows"]
    assert mamba["d_model"] == 16 != attention["d_model"]
    assert abs(attention["n_non_embedding"] / mamba["n_non_embedding"] - 1) <= 0.1
    assert attention["steps"] == mamba["steps"] and attention["lrs"] == [0.005, 0.01, 0.02]
    assert attention["run_s"] > 0
    flops = 3 * mamba["flops_per_token"] * mamba["tokens"]
    assert mamba["training_flops"] == pytest.approx(flops, rel=1e-3)


FIVE = ("three.yaml", "--tokens", "5")
MISTAKES = [
    (["three.yaml"], "tessera compare: either --tokens or --seconds must say how long"),
    (["--tokens", "5"], "tessera compare: ROW, --mixers or --config must say what to train."),
    ([*FIVE, "--seconds", "5"], "either --tokens or --seconds must"),
    (["three.yaml", "--tokens", "-3"], "--tokens must be more than 0, such as 2e7, got -3."),
    (["three.yaml", "--tokens", "2.5"], "--tokens must be a whole number, got 2.5."),
    (["three.yaml", "--seconds", "nan"], "--seconds must be more than 0, such as 2e7, got nan."),
    ([*FIVE, "--lrs", "1,1"], "--lrs must be different numbers more tha"),
    ([*FIVE, "--lrs", "0"], "--lrs must be different numbers more than 0"),
    ([*FIVE, "--seeds", "0,x"], "--seeds must be different whole numbers"),
    ([*FIVE, "--seeds="], "--seeds must be at least one, got none."),
    ([*FIVE, "--folder="], "--folder must name a folder, got none."),
    ([*FIVE, "--processes", "0"], "--processes must be 1 to 64, got 0."),
    ([*FIVE, "--json", "x"], "--json must come with --count or --dry-run"),
    ([*FIVE, "--trainer.max_steps", "3"], "--trainer.max_steps is compare"),
    ([*FIVE, "--trainer.callbacks+=x"], "--trainer.callbacks is compare's"),
    ([*FIVE, "--match", "flops"], "invalid choice: 'flops'"),
    ([*FIVE, "--baseline", "x"], "--baseline must be one of three.yaml, g"),
    ([*FIVE, "--test_on", "me"], "--test_on must be of uniform, rules, go"),
    ([*FIVE, "--folder", "small.yaml"], "--folder: small.yaml"),
    (
        [*FIVE, "--data.context", "8"],
        "three.yaml: data.context must be null",
    ),
    (
        [*FIVE, "--mixers", "a.B"],
        "a.B: model.mixer: a.B cannot be imported",
    ),
    (
        ["three.yaml", "three.yaml+b.yaml", "--tokens", "5"],
        "data.batch_size must be the same for all rows: 8 in three.yaml, 4 in three.yaml+b.yaml.",
    ),
    (
        [
            *(*FIVE, "--mixers", "mamba,bk_core", "--match", "params"),
            *("--model.d_model", "64", "--model.n_layers", "4"),
        ],
        "bk_core: model.d_model must make about ",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_a_line_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write_three(folder)
    (folder / "b.yaml").write_text("data: {batch_size: 4}")
    before = files(folder)
    assert tessera("compare", *arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and message in line
    assert files(folder) == before


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """A comparison in a process of its own."""
    command = [sys.executable, "-m", "tessera", "compare", *ROWS, *options]
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": python_path(root)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def wait_for_run(folder: Path, number: int) -> None:
    """Wait until so many runs are done and another one is at work."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "out" / "runs.csv").exists():
            status = [line["status"] for line in lines(folder)]
            if status.count("done") >= number and "running" in status:
                return
        time.sleep(0.05)
    raise AssertionError("no run was done in time")


def is_anybody_writing(folder: Path) -> bool:
    return any(path.name == ".writer" for path in (folder / "out").rglob(".writer"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_interrupted_goes_on_with_the_same_figures(
    folder: Path, how: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    write_three(folder)
    options = ("--tokens", "20000", "--seeds", "1", "--lrs", "1e-2", "--mixers", "attention")
    process = start(folder, *options)
    wait_for_run(folder, 0)
    time.sleep(2)
    process.send_signal(how)
    _, err = process.communicate(timeout=120)
    if how != signal.SIGKILL:
        assert process.returncode == 128 + how
        assert err.splitlines()[-1].startswith(f"tessera: stopped by {how.name}; 0 of 1 runs are")
        assert [line["status"] for line in lines(folder)] == ["interrupted"]
        assert not is_anybody_writing(folder)
    began = time.monotonic()
    while is_anybody_writing(folder) and how != signal.SIGKILL:
        assert time.monotonic() < began + 60
    assert tessera("compare", *ROWS, *options) == 0
    (line,) = lines(folder)
    assert tessera("compare", *ROWS[:-1], "whole", *options) == 0
    os.rename(folder / "out", folder / "halved")
    os.rename(folder / "whole", folder / "out")
    (whole,) = lines(folder)
    of_time = ("seconds", "tokens_per_s")
    assert {k: v for k, v in line.items() if k not in of_time} == {
        k: v for k, v in whole.items() if k not in of_time
    }


MORTAL = """
import os, signal, sys
import torch
from tessera.model.mixers.attention import AttentionMixer

class Mortal(AttentionMixer):
    def mix(self, *arguments):
        if sys.argv[0] == "-c" and torch.is_grad_enabled():  # in a worker, in training
            os.kill(os.getpid(), signal.SIGKILL)
        return super().mix(*arguments)
"""


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_run_alone(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(folder)
    (folder / "mortal.py").write_text(MORTAL)
    monkeypatch.syspath_prepend(str(folder))
    options = ("--mixers", "mortal.Mortal,attention", "--tokens", "500", "--lrs", "1e-2")
    assert tessera("compare", *ROWS, *options, "--seeds", "0,1") == 1
    err = capfd.readouterr().err.splitlines()
    why = "its process was ended by SIGKILL"
    assert err[-2:] == [f"tessera: mortal.Mortal, seed {seed}: {why}." for seed in (0, 1)]
    found = [(line["status"], line["reason"]) for line in lines(folder)]
    assert found == [("failed", why)] * 2 + [("done", "")] * 2


def test_every_gpu_has_a_process_of_its_own_before_one_has_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def named(num_gpus: int, per_gpu: int) -> list[str]:
        return [each["CUDA_VISIBLE_DEVICES"] for each in places(num_gpus, per_gpu, 3, 1)]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert named(2, 1) == ["0", "1"] and named(2, 2) == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")  # of which two are seen
    assert named(2, 1) == ["5", "GPU-7"]
    assert named(0, 1) == [""] * 3  # as many as a CPU is to have


@pytest.mark.gpu
def test_a_gpu_is_named_to_every_worker(folder: Path) -> None:
    write_three(folder)
    assert tessera("compare", *ROWS, *BRIEF, "--model.cuda_graph", "true") == 0
    found = lines(folder)
    assert all(float(line["peak_mb"]) > 0 for line in found if line["status"] == "done")
    assert torch.cuda.device_count() > 0
