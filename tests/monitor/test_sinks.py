"""Alerts reach whoever reads, and the table reads well in a plain log file."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from tessera.monitor import METRICS, TOP_FIVE, Alert, Sinks
from tessera.monitor.metrics import CATEGORIES
from tessera.monitor.summary import Summary
from tessera.monitor.tensorboard import layout

ALERT = Alert(7, "ssm_state_norm", 120.0, 100.0, "high", "ssm_state_norm 120 is above 100 (high)")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_alert_is_red_on_a_terminal_and_plain_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    Sinks(None).alert(ALERT)
    assert capsys.readouterr().err == f"ALERT at step 7: {ALERT.message}\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Sinks(None).alert(ALERT)
    shown = terminal.getvalue()
    assert shown.startswith("\033[31mALERT at step 7") and shown.rstrip().endswith("\033[0m")


def test_alerts_are_lines_of_json_even_where_the_value_is_no_number(tmp_path: Path) -> None:
    sinks = Sinks(TensorBoardLogger(tmp_path))
    sinks.alert(ALERT)
    sinks.alert(Alert(9, "move_number", math.nan, None, "high", "move_number is no finite number"))
    (file,) = tmp_path.rglob("alerts.jsonl")
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["step"], first["value"], first["severity"]) == (7, 120.0, "high")
    assert (second["value"], second["threshold"]) == ("nan", None)
    assert sinks.failed == {}


def test_a_logger_that_is_not_tensorboard_takes_the_figures(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    sinks = Sinks(logger)
    sinks.figures({"move_number": 3.0}, 5)
    sinks.alert(ALERT)
    logger.save()
    (file,) = tmp_path.rglob("metrics.csv")
    assert "monitor/move_number" in file.read_text() and "monitor/num_alerts" in file.read_text()
    assert sinks.failed == {}


def test_a_sink_that_fails_is_told_once_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    logger = TensorBoardLogger(tmp_path)
    sinks = Sinks(logger)
    Path(logger.log_dir, "alerts.jsonl").mkdir()
    for _ in range(3):
        sinks.alert(ALERT)
    told = capsys.readouterr().err.splitlines()
    assert sum("alerts.jsonl is left out from now on" in line for line in told) == 1
    assert sum("ALERT" in line for line in told) == 3
    assert list(sinks.failed) == ["alerts.jsonl"]


def test_a_console_that_is_gone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    sinks = Sinks(None)
    sinks.alert(ALERT)
    assert list(sinks.failed) == ["the console"]


def test_the_table_has_the_least_the_mean_and_the_most_of_every_metric() -> None:
    summary = Summary()
    summary.add({"ssm_state_norm": 1.0, "num_segments": 3.0})
    summary.add({"ssm_state_norm": 4.0})
    summary.add({"ssm_state_norm": 2.5, "time_forward": 123456.0})
    table = summary.table("monitor, steps 1 to 100", {"vram_used_mb": "cpu has no GPU memory"})
    lines = table.splitlines()
    assert lines[0].split()[-3:] == ["min", "mean", "max"]
    rows = {line.split()[0]: line.split()[-3:] for line in lines if "absent" not in line}
    assert rows["ssm_state_norm"] == ["1", "2.5", "4"]
    assert rows["num_segments"] == ["3", "3", "3"]
    assert rows["time_forward"] == 3 * ["123456"]
    assert "  absent: vram_used_mb (cpu has no GPU memory)" in lines
    assert all(name in table for name in METRICS)
    assert max(map(len, lines[:4])) < 80 and "\033" not in table and "\t" not in table


def test_the_next_table_begins_anew() -> None:
    summary = Summary()
    summary.add({"num_segments": 3.0})
    summary.table("first", {})
    summary.add({"num_segments": 8.0})
    assert "8          8          8" in summary.table("second", {})


def test_a_value_that_is_not_a_number_is_not_hidden() -> None:
    for values in ((1.0, math.nan), (math.nan, 1.0), (1.0, math.nan, 2.0)):
        summary = Summary()
        for value in values:
            summary.add({"ssm_state_norm": value})
        (line,) = [x for x in summary.table("t", {}).splitlines() if x.startswith("  ssm_state_n")]
        assert line.split()[-3:] == 3 * ["nan"]


def test_there_is_a_page_for_the_top_five_and_one_for_each_category() -> None:
    pages = layout(METRICS.values())
    assert list(pages) == ["monitor: top five", *(f"monitor: {name}" for name in CATEGORIES)]
    assert len(pages["monitor: top five"]) == 5

    def shown(page: str) -> set[str]:
        patterns = [p for kind, tags in pages[page].values() for p in tags]
        return {name for name in METRICS if any(re.match(p, f"monitor/{name}") for p in patterns)}

    assert set(TOP_FIVE) <= shown("monitor: top five")
    for category in CATEGORIES:
        own = {name for name, metric in METRICS.items() if metric.category == category}
        assert own <= shown(f"monitor: {category}")
    # A chart shows no metric whose name only begins alike.
    assert "ssm_state_entropy_ratio" not in str(pages["monitor: state"]["ssm_state_entropy"])
    (pattern,) = pages["monitor: state"]["ssm_state_entropy"][1]
    assert not re.match(pattern, "monitor/ssm_state_entropy_ratio")
