"""``tessera bench memory``: what is counted is what a run takes; what is absent says why."""

from __future__ import annotations

import io
import json
import re
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.commands.bench import command, memory_command, memory_process
from tessera.commands.bench.memory_command import results_of
from tessera.commands.bench.memory_count import count, counted
from tessera.commands.bench.memory_file import MemoryFile
from tessera.commands.bench.memory_process import Measured, RunProcess
from tessera.commands.bench.memory_report import MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import GROUPS, MODES, TRAINING, rows_of
from tessera.commands.bench.memory_run import (
    losses_of_step,
    new_model,
    new_optimizer,
    tokens_of,
    training_step,
)
from tests.commands.bench.small_rows import small

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NO_FILE = MemoryFile(None, MemoryReport("", "", "", ()))
MIXERS = ("attention", "tangent_attention", "adaptive_rank")
MIXED = "bf16-mixed"


@pytest.mark.parametrize(
    ("mixer", "mode", "precision"),
    [
        *((mixer, TRAINING, MIXED) for mixer in MIXERS),
        *(("tangent_attention", mode, MIXED) for mode in MODES if mode != TRAINING),
        ("attention", TRAINING, "32-true"),
        ("adaptive_rank", TRAINING, "bf16-true"),
    ],
)
def test_tensors_without_memory_take_what_real_ones_take(
    mixer: str, mode: str, precision: str
) -> None:
    row = small(mixer, mode)
    assert count(row, precision) == counted(row, precision)


@pytest.mark.parametrize("mixer", MIXERS)
def test_what_is_kept_is_what_autograd_saves(mixer: str) -> None:
    row = small(mixer)
    model = new_model(row.model, True, MIXED)
    tokens = tokens_of(model, row.batch_size, row.length)
    outside = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), tokens)}
    saved: dict[int, weakref.ref[Any]] = {}  # what no loss depends on is gone before the end

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in outside:
            saved[storage._cdata] = weakref.ref(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = losses_of_step(model, tokens, MIXED)
    living = [storage for each in saved.values() if (storage := each()) is not None]
    num_bytes = sum(storage.nbytes() for storage in living)
    assert count(row, MIXED).kept == num_bytes + losses.nbytes


@pytest.mark.parametrize("mixer", MIXERS)
def test_weights_gradients_and_moments_are_those_of_a_real_step(mixer: str) -> None:
    row = small(mixer)
    model = new_model(row.model, True, MIXED)
    optimizer = new_optimizer(model)
    tokens = tokens_of(model, row.batch_size, row.length)
    losses_of_step(model, tokens, MIXED).mean().backward()
    found = count(row, MIXED)
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    assert found.weights == 4 * found.parameters
    gradients = [weight.grad for weight in model.parameters()]
    assert found.gradients == sum(each.nbytes for each in gradients if each is not None)
    training_step(model, optimizer, tokens, MIXED)()
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert found.moments == sum(value.nbytes for value in states)


def test_checkpoints_keep_less_and_inference_nothing() -> None:
    inference, training, checkpointed = (
        count(small("tangent_attention", mode)._replace(length=128), MIXED) for mode in MODES
    )
    assert 0 < checkpointed.kept < training.kept
    assert checkpointed.peak < training.peak
    assert (inference.gradients, inference.moments, inference.kept) == (0, 0, 0)
    assert 2 * inference.weights == training.weights < inference.peak + training.weights


def test_attention_alone_grows_with_the_square_of_the_length() -> None:
    def kept(mixer: str, length: int) -> int:
        return count(small(mixer)._replace(length=length), MIXED).kept

    def growth(mixer: str) -> float:
        return kept(mixer, 4096) / kept(mixer, 2048)

    assert growth("tangent_attention") < 2.01 and growth("attention") > 3


def test_the_rows_are_the_published_models() -> None:
    rows = {group: rows_of(group) for group in GROUPS}
    assert [len(each) for each in rows.values()] == [24, 12, 15]
    named = {row.name: row for group in rows.values() for row in group}
    # By arithmetic, which tests of the models compare with the modules.
    of = {name: row.model.num_parameters() for name, row in named.items()}
    assert (of["ultra"], of["baseline"]) == (616_088, 29_131_024)
    sizes = {"4096×32": 3_081_827_360, "3072×48": 2_575_476_528}
    sizes |= {"2048×64": 1_540_733_504, "2048×48": 1_187_977_776}
    for size, parameters in sizes.items():
        assert of[f"phase 8, linear, {size}"] == parameters
        # Attention has no biases, 4 d a layer, and no curvature.
        d_model, n_layers = map(int, size.split("×"))
        fewer = n_layers * (4 * d_model + 1)
        assert of[f"phase 7, attention, {size}"] == parameters - fewer
    published = [row for group in rows.values() for row in group if row.published]
    assert len(published) == 8 + 5 and all(row.reason for row in published)
    assert all(
        row.model.checkpoint_activations == (row.mode == "checkpointed")
        for group in rows.values()
        for row in group
        if row.mode != "inference"
    )


def test_the_largest_needs_46_gib_to_be_trained_and_6_to_be_asked() -> None:
    inference, training = (count(row, MIXED) for row in rows_of("sizes")[:2])
    assert 5.7 < inference.peak / 2**30 < 5.9
    assert 45.8 < training.peak / 2**30 < 46.1


def test_the_table_and_the_json_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [small(mode=mode) for mode in MODES]
    rows[1] = rows[1]._replace(published=3 * 2**30, reason="another machine")
    monkeypatch.setattr(memory_command, "rows_of", lambda group: rows)
    file = tmp_path / "memory.json"
    options = ["--rows", "sizes", "--device", "cpu", "--json", str(file)]
    assert command.main(["memory", *options]) == 0
    printed, said = capsys.readouterr()
    second = r"2 of 3: attention, 16 positions, training: \d\.\d\d GiB counted"
    assert re.fullmatch(second, said.splitlines()[1])
    report = json.loads(file.read_text())
    assert [row["mode"] for row in report["rows"]] == list(MODES)
    for row in report["rows"]:
        assert row["measured"] is None and row["missing"] == ""
        assert row["counted"]["parameters"] == sum(
            weight.numel() for weight in new_model(small().model, True, MIXED).parameters()
        )
    _, _, heading, columns, *lines = printed.splitlines()
    assert heading.startswith("The four sizes of phases 7 and 8, in GiB")
    assert columns.endswith("published  why they differ")
    assert lines[1].endswith("3.00  another machine")
    assert " –  " in lines[0] and len(lines) == 3


def test_a_row_that_cannot_be_measured_stays_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (result,) = results_of([small()], MIXED, CUDA, NO_FILE)
    assert (result.measured, result.missing) == (None, "ended: exit code 1")
    assert result.counted == count(small(), MIXED)
    assert MemoryReport("x", MIXED, "", (result,)).lines()[-1].endswith("ended: exit code 1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_a_process_answers_for_its_row() -> None:
    (result,) = results_of([small()], MIXED, CUDA, NO_FILE)
    assert result.missing == "torch finds no CUDA device"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The answer of a process that believes in a GPU with 10 MiB left."""

    def answer(needed: int, measured: Any) -> Any:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * 2**20, 2**30))
        monkeypatch.setattr(memory_process, "_measured", measured)
        asked = {**small()._asdict(), "model": small().model.as_dict()}
        asked |= {"precision": MIXED, "device": "cuda", "needed": needed}
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
        assert memory_process.main() == 0
        return json.loads(capsys.readouterr().out)

    return answer


def test_memory_is_looked_at_before_a_run(ask: Any) -> None:
    found = ask(11 * 2**20, None)
    assert found == {"missing": "needs at least 11 MiB, 10 MiB are free"}


def test_memory_that_runs_out_is_a_reason(ask: Any) -> None:
    def runs_out(*arguments: object) -> Measured:
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = ask(9 * 2**20, runs_out)
    assert found == {"missing": "out of memory, of which 10 MiB were free"}


def test_what_was_measured_is_what_the_table_says(ask: Any) -> None:
    found = ask(9 * 2**20, lambda row, precision, device: Measured(row.length, 2**30, 0.25))
    result = MemoryResult(small(), count(small(), MIXED), Measured(**found))
    assert result.measured == Measured(16, 2**30, 0.25)
    assert result.cells(2**30)[9:11] == [1.0, 250.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "muse", "size"], "--rows must be some of sizes, lengths, muse, got size."),
        (["--precision", "16"], "--precision must be one of bf16-mixed, bf16-true, 32-true, got"),
        (["--device", "abacus"], "--device must be auto, cpu or cuda, got abacus."),
        (["--report", "/no/such.json"], "--report: /no/such.json: No such file or directory."),
        (["--report", __file__], "--report must name files of tessera bench memory --json, got"),
        (["--report", "x", "--rows", "muse"], "--rows must be left out with --report."),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder."),
        (["--moves", "1"], "unrecognized arguments: --moves 1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["memory", *arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tessera bench") and message in line


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_takes_about_what_is_counted(mode: str) -> None:
    model = replace(small(mode=mode).model, vocab_size=4096, d_model=512, n_layers=6)
    row = small(mode=mode)._replace(model=model, length=512)
    found = count(row, MIXED)
    with RunProcess() as process:
        process.begin(row, MIXED, "cuda", found.weights)
        measured = process.measured()
    assert found.weights <= measured.weights < 1.05 * found.weights
    assert 0.6 * found.peak < measured.peak < 1.2 * found.peak + 64 * 2**20  # and workspaces
    assert measured.seconds > 0
