"""``tessera bench memory --json``: what was measured stays, is gone on with, and is shown again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera import cli
from tessera.commands.bench import command, memory_command
from tessera.commands.bench.memory_process import Measured
from tessera.commands.bench.memory_rows import MODES, MemoryRow
from tessera.commands.bench.rivals import NotMeasuredError
from tests.commands.bench.small_rows import small

CUDA = torch.device("cuda")


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


def test_a_dash_for_a_file_is_standard_output_alone(
    rows: Rows, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rows.file.parent)
    rows.file = Path("-")
    assert rows.run() == list(MODES)
    assert [row["mode"] for row in json.loads(capsys.readouterr().out)["rows"]] == list(MODES)
    assert not rows.file.exists()


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
