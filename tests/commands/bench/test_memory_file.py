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
from tessera.commands.bench.memory_count import Counted
from tessera.commands.bench.memory_file import whole_report
from tessera.commands.bench.memory_page import MemoryPage
from tessera.commands.bench.memory_process import Measured
from tessera.commands.bench.memory_report import MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import MODES, MemoryRow
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.json_file import write_json
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
        self.held: list[int] = []  # rows of the file whenever another one is measured

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
        self.held.append(self.file.read_text().count('"counted":') if self.file.exists() else 0)
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
    assert rows.held == [0, 1, 2]
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
    rows.missing = {"inference": "needs more", "training": "needs more"}
    rows.run()
    rows.missing = {}
    rows.held.clear()
    assert rows.run() == ["inference", "training"]
    # In the place of what there was of it.
    assert rows.held == [3, 3] and sorted(rows.modes()) == sorted(MODES)
    assert rows.run() == []


def test_rows_that_nobody_asks_for_now_stay_in_the_file(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.run()
    # Alike but for what the model is made of.
    others = [small(mode=mode)._replace(model=small("identity").model) for mode in MODES]
    monkeypatch.setattr(memory_command, "rows_of", lambda group: others)
    rows.stops_at = "checkpointed"
    assert rows.run() == list(MODES) and len(rows.modes()) == 5
    rows.stops_at = ""
    assert rows.run() == ["checkpointed"] and len(rows.modes()) == 6


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


GIB = 2**30
COUNTED = Counted(7, 1 * GIB, 2 * GIB, 4 * GIB, 9 * GIB, 11 * GIB)


def report_of(*results: MemoryResult) -> MemoryReport:
    return MemoryReport("a GPU", "bf16-mixed", "1", results)


def test_of_a_row_in_several_files_the_last_one_that_was_measured_is_shown(tmp_path: Path) -> None:
    names = []
    # A file that only counts a row takes away nothing that another one measured.
    for number, seconds in enumerate((1.0, 2.0, None)):
        measured = None if seconds is None else Measured(1, 2, seconds)
        names.append(str(tmp_path / f"{number}.json"))
        write_json(names[-1], report_of(MemoryResult(small(), COUNTED, measured)).as_json())
    (result,) = whole_report(names).results
    assert result.measured is not None and result.measured.seconds == 2.0
    (result,) = whole_report(names[::-1]).results
    assert result.measured is not None and result.measured.seconds == 1.0


def test_every_figure_of_a_page_stands_in_its_own_column() -> None:
    def result(group: str, name: str, mode: str, of_published: float | None) -> MemoryResult:
        row = small(mode=mode)._replace(group=group, name=name, published=of_published, length=512)
        return MemoryResult(row, COUNTED, Measured(1, 13 * GIB, 0.5))

    rows = [result("sizes", "a", mode, 3 * GIB) for mode in MODES]
    rows += [result("lengths", f"a, {kind}", "training", None) for kind in ("full", "linear")]
    rows += [result("muse", "a", mode, None) for mode in ("inference", "checkpointed")]
    rows.append(result("muse", "a", "training", 5 * 2**20))
    lines = MemoryPage(report_of(*rows)).lines()
    found = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    peaks = ["11.00", "13.00"]
    sizes = ["a", "7", "3.00", *peaks, "7.00", "9.00", "9.00", *peaks, *peaks, "500.0", "500.0"]
    assert found[1] == sizes
    assert found[2][1:] == [
        *("full: kept", "full: peak, counted", "full: measured", "full: ms a step"),
        *("linear: kept", "linear: peak, counted", "linear: measured", "linear: ms a step"),
    ]
    assert found[3] == ["512", *(["9.00", *peaks, "500.0"] * 2)]
    assert found[5] == ["a", "7", "5.0, training", *(["11,264.0", "13,312.0"] * 3)]
