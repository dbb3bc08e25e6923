"""``tessera check`` as it is typed: the table, the file, the exit code, what a log file shows."""

from __future__ import annotations

import io
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.commands.check import command
from tessera.commands.check.criteria import Finding, Verdict
from tessera.commands.check.report import Report
from tessera.commands.check.trials import Scale
from tessera.commands.json_file import json_text
from tests.commands.check.small import SMALL
from tests.runs import python_path, tessera

TINY = Scale(SMALL, 5, num_batches=2, whole_games=4, long_games=3, plies=10, d_model=8)


@dataclass(frozen=True)
class Ran:
    """What one run of the command left."""

    code: int
    out: list[str]
    err: list[str]
    found: dict[str, Any]
    files: list[str]


def run_check(folder: Path, scale: Scale) -> Ran:
    """``tessera check`` in that folder, with all that is measured made small."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(command, "scale_for", lambda device: scale)
        code = tessera("check", "--device", "cpu", "--seed", 3, "--json", "check.json")
    found = json.loads((folder / "check.json").read_text())
    files = [path.name for path in folder.iterdir()]
    return Ran(code, out.getvalue().splitlines(), err.getvalue().splitlines(), found, files)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run in which all criteria are met."""
    return run_check(tmp_path_factory.mktemp("check"), TINY)


def finding(number: int = 1, verdict: Verdict = "passed", **details: object) -> Finding:
    return Finding(number, "a name", "what was measured", "at least 9", verdict, details)


def report(*verdicts: Verdict) -> Report:
    findings = tuple(finding(nth + 1, verdict) for nth, verdict in enumerate(verdicts))
    return Report("a machine", "cpu", 0, 61.0, findings)


def test_the_table_and_the_json_say_the_same(ran: Ran) -> None:
    found, lines = ran.found, ran.out
    assert ran.code == 0, "\n".join(lines)
    assert found["passed"] is True and found["device"] == "cpu" and found["seconds"] > 0
    assert [one["number"] for one in found["findings"]] == [1, 2, 3, 4, 5]
    assert lines[0] == f"The five criteria on {found['machine']}, seed 3"
    assert lines[2].split() == ["criterion", "measured", "wanted", "pass"]
    assert lines[-1].startswith("All five criteria are met.")
    columns = [0, *(lines[2].index(name) for name in ("measured", "wanted", "pass")), None]
    starts = [row for row, line in enumerate(lines) if line[:1].isdigit()]
    for one, start, end in zip(found["findings"], starts, [*starts[1:], -2], strict=True):
        cells = [
            " ".join(" ".join(line[left:right] for line in lines[start:end]).split())
            for left, right in itertools.pairwise(columns)
        ]
        assert one["verdict"] == "passed"
        assert cells == [f"{one['number']} {one['name']}", one["measured"], one["wanted"], "yes"]


def test_a_log_file_gets_a_line_for_each_criterion_and_nothing_else(ran: Ran) -> None:
    for one, line in zip(ran.found["findings"], ran.err, strict=True):
        assert line.startswith(f"criterion {one['number']}, {one['name']}: passed (")


def test_nothing_is_left_behind_but_the_file_that_was_asked_for(ran: Ran) -> None:
    assert ran.files == ["check.json"]


def test_the_details_are_what_the_words_are_made_of(ran: Ran) -> None:
    engine, progress, transfers, monitor, long_games = (
        one["details"] for one in ran.found["findings"]
    )
    assert ran.found["seed"] == 3
    assert len(engine["batches"]) == 2 and engine["sound_batches"] == 2
    assert progress["losses"][0] == progress["first_loss"]
    assert progress["ln_vocabulary"] == pytest.approx(math.log(12))
    assert transfers["num_transfers"] > 0 and transfers["max_ms"] >= transfers["mean_ms"]
    assert set(monitor["not_measurable_here"]) == {"vram_used_mb", "fragmentation_ratio"}
    assert monitor["latest"]["ssm_state_norm"] > 0
    assert long_games["batches"][0]["figures"]["longest_game"] == 10


def test_a_criterion_that_is_not_met_is_exit_code_1(tmp_path: Path) -> None:
    # Games of 2×2 end long before move 60, and that is said.
    scale = Scale(SMALL, 2, num_batches=2, whole_games=4, long_games=3, plies=60, d_model=8)
    ran = run_check(tmp_path, scale)
    assert ran.code == 1 and ran.found["passed"] is False
    assert ran.out[-1].startswith("Not met: 5.") and "no game got beyond" in "\n".join(ran.out)
    assert ran.err[-1].startswith("criterion 5, stable past the middle game: failed")


@pytest.mark.parametrize(
    ("verdicts", "passed", "told"),
    [
        (("passed", "passed"), True, "All five criteria are met. It took 01:01."),
        (("passed", "failed"), False, "Not met: 2. It took 01:01."),
        (("passed", "not measurable here"), False, "Not met: 2. It took 01:01."),
        (("not measurable here", "failed"), False, "Not met: 1, 2. It took 01:01."),
    ],
)
def test_only_a_pass_is_a_pass(verdicts: tuple[Verdict, ...], passed: bool, told: str) -> None:
    found = report(*verdicts)
    assert found.passed == passed and found.as_json()["passed"] == passed
    assert found.lines()[-1] == told
    rows = [line for line in found.lines() if line[:1].isdigit()]
    for verdict, row in zip(verdicts, rows, strict=True):
        words = {"passed": "yes", "failed": "NO", "not measurable here": "not measurable"}
        assert row.endswith(words[verdict])


def test_a_number_that_is_none_is_written_in_letters() -> None:
    details = finding(losses=[1.0, math.nan], worst={"loss": math.inf})
    text = json_text(Report("a machine", "cpu", 0, 1.0, (details,)).as_json())
    assert json.loads(text)["findings"][0]["details"] == {
        "losses": [1.0, "nan"],
        "worst": {"loss": "inf"},
    }


def test_a_terminal_shows_a_bar_that_fills_up_and_goes_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)

    def half(tell: Callable[[float], None]) -> list[Finding]:
        tell(0.5)
        return [finding()]

    names = ("1 the engine", "a training", "5 long games")
    assert len(list(command.tried(dict.fromkeys(names, half)))) == 3
    bars = shown.getvalue().split("\r")
    for text in ("1 the engine |", "17%", "a training |", "50%", "5 long games |", "100%"):
        assert any(text in bar for bar in bars), bars
    assert "criterion" not in shown.getvalue() and bars[-1].strip() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "abacus"], "--device must be auto, cpu or cuda, got abacus."),
        (["--device", "cpu:1"], "--device must be auto, cpu or cuda, got cpu:1."),
        (["--seed", "-1"], "--seed must be 0 to 4294967295, got -1."),
        (["--seed", "one"], "invalid int value: 'one'"),
        (["--json", "/no/such/folder/x.json"], "--json: there is no folder /no/such/folder."),
        (["--json", "/tmp"], "--json: /tmp cannot be written."),
        (["--json", ""], "--json must name a file, got none."),
        (["--dev", "cpu"], "unrecognized arguments: --dev cpu"),
        (["--quick"], "unrecognized arguments: --quick"),
        (["--seed", "-1", "--device", "abacus"], "got -1. --device must be auto"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tessera("check", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tessera check: ") and message in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tessera("check", "--device", "cuda") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "torch finds no CUDA device here; use cpu." in captured.err


def test_a_wrong_argument_is_found_before_torch_is_loaded(repository: Path) -> None:
    program = (
        "import sys\n"
        "from tessera.cli import main\n"
        "try: main(['check', '--seed', '-1'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)"
    )
    began = time.monotonic()
    environment = {"PYTHONPATH": python_path(repository), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert time.monotonic() - began < 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_this_machine_meets_the_criteria_on_its_cpu(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "tessera", "check", "--device", "cpu", "--json", "found.json"]
    environment = {"PYTHONPATH": python_path(repository), "PATH": "", "HOME": str(tmp_path)}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "All five criteria are met." in run.stdout
    assert len(run.stderr.splitlines()) == 5, run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_this_machine_meets_the_criteria_on_its_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    assert tessera("check", "--device", "cuda", "--json", file) == 0, capsys.readouterr().out
    transfers, monitor = json.loads(file.read_text())["findings"][2:4]
    assert transfers["details"]["num_profiled_steps"] > 0
    assert monitor["details"]["not_measurable_here"] == []
