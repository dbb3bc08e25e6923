"""``tessera bench memory``: what is counted is what a run takes; what is absent says why."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera import cli
from tessera.commands.bench import command, memory_command, memory_process
from tessera.commands.bench.memory_command import results_of
from tessera.commands.bench.memory_count import count, counted
from tessera.commands.bench.memory_file import MemoryFile
from tessera.commands.bench.memory_process import Measured, RunProcess
from tessera.commands.bench.memory_report import MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import GROUPS, MODES, TRAINING, MemoryRow, rows_of
from tessera.commands.bench.memory_run import (
    losses_of_step,
    new_model,
    new_optimizer,
    tokens_of,
    training_step,
)
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.model import ModelSettings

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NO_FILE = MemoryFile(None, MemoryReport("", "", "", ()))
MIXERS = ("attention", "tangent_attention", "adaptive_rank")
MIXED = "bf16-mixed"


def small(mixer: str = "attention", mode: str = TRAINING) -> MemoryRow:
    settings = ModelSettings(
        vocab_size=50,
        d_model=32,
        n_layers=2,
        mixer=mixer,
        feed_forward="low_rank",
        norm="layer",
        checkpoint_activations=mode == "checkpointed",
    )
    return MemoryRow("sizes", mixer, settings, 2, 16, mode)


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


class Rows:
    """``tessera bench memory --rows sizes`` on three rows, as a GPU would measure them."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.begun, self.stops_at = file, list[str](), ""
        rows = [small(mode=mode) for mode in MODES]
        monkeypatch.setattr(memory_command, "rows_of", lambda group: rows)
        monkeypatch.setattr(memory_command, "find_device", self._find_device)
        monkeypatch.setattr(memory_command, "machine_name", lambda device: "a GPU")
        monkeypatch.setattr(memory_command, "RunProcess", lambda: self)
        self.missing: dict[str, str] = {}

    def _find_device(self, arguments: Any, parser: Any, problems: list[str]) -> torch.device:
        if problems:
            parser.error(" ".join(problems))
        return CUDA

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, row: MemoryRow, *asked: object) -> None:
        self.begun.append(row.mode)

    def measured(self) -> Measured:
        mode = self.begun[-1]
        if mode == self.stops_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if mode in self.missing:
            raise NotMeasuredError(self.missing[mode])
        return Measured(16, 2**30, 0.25)

    def run(self, *options: str) -> list[str]:
        """The rows that it began."""
        self.begun.clear()
        cli.main(["bench", "memory", "--rows", "sizes", "--json", str(self.file), *options])
        return list(self.begun)

    def modes(self) -> list[str]:
        return [row["mode"] for row in json.loads(self.file.read_text())["rows"]]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(tmp_path / "memory.json", monkeypatch)


def test_what_was_measured_before_a_signal_stays_and_is_gone_on_with(
    rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.stops_at = "checkpointed"
    assert rows.run() == list(MODES)
    printed, said = capsys.readouterr()
    assert said.splitlines()[-1] == "tessera: stopped by SIGTERM."
    assert "250.0" in printed and "checkpointed" not in printed
    assert rows.modes() == ["inference", "training"]
    rows.stops_at = ""
    assert rows.run() == ["checkpointed"]
    printed, said = capsys.readouterr()
    assert said.splitlines()[0].endswith("memory.json. 2 of 3 rows are there.")
    assert rows.modes() == list(MODES) and printed.count("250.0") == 3
    assert rows.run() == []


def test_a_row_that_could_not_be_measured_is_tried_again(rows: Rows) -> None:
    rows.missing = {"training": "needs more"}
    rows.run()
    rows.missing = {}
    assert rows.run() == ["training"]
    assert rows.run() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": "another GPU"}, "on another machine: all rows are measured again."),
        ({"code": "0"}, "with another version of the program: all rows are measured again."),
        ({"precision": "32-true"}, "in another precision: all rows are measured again."),
        ({"rows": [{}]}, "holds no rows of this command, and is replaced."),
        ({"rows": 7}, "holds no rows of this command, and is replaced."),
    ],
)
def test_rows_of_another_run_are_measured_again(
    rows: Rows, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.run()
    rows.file.write_text(json.dumps({**json.loads(rows.file.read_text()), **change}))
    capsys.readouterr()
    assert rows.run() == list(MODES)
    assert said in capsys.readouterr().err.splitlines()[0]
    assert rows.run() == []


def test_a_report_shows_what_files_hold_as_markdown_and_measures_nothing(
    rows: Rows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.missing = {"training": "needs more"}
    rows.run()
    capsys.readouterr()
    rows.begun.clear()
    assert command.main(["memory", "--report", str(rows.file)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert not rows.begun
    line = next(line for line in printed if line.startswith("| attention |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    heading = next(line for line in printed if line.startswith("| model |"))
    assert len(cells) == heading.count("|") - 1
    assert cells[1] == f"{small().model.num_parameters():,}"
    assert cells[4] == cells[11] == "1.00" and cells[9] == "–"
    assert cells[12:] == ["–", "250.0"]
    assert printed[-1] == "- attention, 16 positions, training: not measured: needs more"
    other = rows.file.with_name("other.json")
    other.write_text(rows.file.read_text().replace("a GPU", "another"))
    with pytest.raises(SystemExit):
        command.main(["memory", "--report", str(rows.file), str(other)])
    assert f"{other} was measured on another machine than" in capsys.readouterr().err


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
