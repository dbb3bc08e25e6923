"""``tessera bench map``: every time in it was waited for, and what is absent says why."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tessera.commands.bench import command
from tessera.commands.bench.gtp_process import GtpProcess
from tessera.commands.bench.map_speed import (
    MapReport,
    Waits,
    games_of,
    of_configs,
    time_session,
)
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.companion import Companion
from tessera.go import RULES, GPUGoEngine
from tessera.play.session import Session
from tests.play.conftest import new_model, new_session
from tests.runs import fit

__all__ = ["new_session"]

CPU = torch.device("cpu")
WHATS = ["move to map", "of it, processor time", "undo to map"]
OF_GTP = ["play to heatmap, GTP", "play to lz-analyze, GTP", "start to first answer, GTP"]


def test_the_table_and_the_json_say_what_was_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "map.json"
    options = ["--config", "quickstart", "--board_size", "3", "--moves", "20"]
    assert command.main(["map", *options, "--device", "cpu", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("timing quickstart, a move and its map ...\n")
    report = json.loads(file.read_text())
    assert report["missing"] == {}
    assert [row["what"] for row in report["waits"]] == WHATS + OF_GTP
    waited = {row["what"]: row for row in report["waits"]}
    for row in report["waits"]:
        assert (row["model"], row["board_size"]) == ("quickstart", 3)
        assert len(row["seconds"]) == (1 if row["what"].startswith("start") else 20)
        assert all(seconds > 0 for seconds in row["seconds"])
        assert row["median_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["max_ms"] == pytest.approx(1000 * max(row["seconds"]))
        (line,) = [line for line in printed.out.splitlines() if f"  {row['what']}  " in line]
        assert line.startswith("quickstart  3×3 ") and f" {row['median_ms']:.2f} " in line
    # A map is kept, a step of the model is not free, and torch is loaded only once.
    assert waited["undo to map"]["median_ms"] < waited["move to map"]["median_ms"]
    assert waited["start to first answer, GTP"]["median_ms"] > 500


def test_of_a_checkpoint_whose_engine_does_not_start_the_rest_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    options = ["--ckpt_path", "last", "--run_name", "small", "--device", "cpu", "--moves", "3"]
    assert command.main(["map", *options]) == 0
    _, _, _, *rows = capsys.readouterr().out.splitlines()
    path = "checkpoints/small/version_0/last.ckpt"
    assert [row.split()[0] for row in rows[:3]] == [path] * 3
    assert [what in row for what, row in zip(WHATS, rows, strict=False)] == [True] * 3
    assert rows[3:] == [f"{path}, GTP  tessera gtp ended: exit code 1"]


def test_the_clock_runs_from_the_move_to_the_map(new_session: Callable[..., Session]) -> None:
    session = new_session(board_size=3)
    session.model.embedding.register_forward_hook(lambda *_: time.sleep(0.005))
    moved, spent, undone = time_session(session, [[0, 1, 2, 4], [3, 9]]).values()
    assert len(moved) == len(spent) == len(undone) == 6
    assert min(moved) > 0.005 > sorted(undone)[3], "of a move that is taken back the map is kept"
    # Who sleeps needs no processor.
    assert all(0 < own < whole - 0.004 for own, whole in zip(spent, moved, strict=True))
    assert session.moves == []


def test_moves_are_those_of_whole_games_as_many_as_were_asked_for() -> None:
    companion = Companion(new_model(board_size=3), 3, RULES["full"], None)
    games = games_of(companion, 150)
    assert sum(map(len, games)) == 150 and len(games) > 1
    for moves in games[:-1]:
        engine = GPUGoEngine(1, "cpu", 3)
        for token in moves:
            engine.play_batch(torch.tensor([token]), check=True)
        assert engine.is_game_over().all()
    assert games[0] != games[1] and games_of(companion, 7) == [games[0][:7]]


def test_a_configurations_model_reads_what_it_says() -> None:
    tessera, board = of_configs(["tessera", "board_19x19"], 4, CPU)
    assert (tessera.companion.context, board.companion.context) == (64, None)
    assert tessera.companion.model.features is None is not board.companion.model.features
    for subject in (tessera, board):
        assert subject.companion.board_size == 4
        assert not subject.path.exists(), "nothing is left behind"
    (whole,) = of_configs(["quickstart"], None, CPU)
    assert whole.companion.board_size == 9


def test_shares_are_of_times_that_were_measured() -> None:
    waits = Waits("x", 9, "move to map", tuple(ms / 1000 for ms in range(200, 0, -1)))
    assert [round(waits.ms(share)) for share in (0.5, 0.9, 0.99, 1)] == [100, 180, 198, 200]
    few = Waits("x", 9, "move to map", (0.3, 0.1, 0.2))
    assert [round(few.ms(share)) for share in (0.5, 0.9, 0.99)] == [200, 300, 300]
    once = Waits("x", 9, "start to first answer, GTP", (2.5,))
    assert once.ms(0.5) == once.ms(0.99) == 2500
    *_, row = MapReport("a machine", (waits, once), {}).lines()
    assert row.split()[-5:] == ["1", "2500.00", "–", "–", "–"]


def test_an_engine_that_ends_says_why() -> None:
    with pytest.raises(NotMeasuredError, match="arguments are required: --ckpt_path"):
        GtpProcess([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--moves", "0"], "--moves must be at least 1, got 0."),
        (["--moves", "1000000"], "--moves must be at most 100000, got 1000000."),
        (["--threads", "0"], "--threads must be at least 1, got 0."),
        (["--board_size", "25"], "--board_size must be 2 to 19, got 25."),
        (["--config", "tesera"], "--config must be one of any_board, board_19x19, "),
        (["--config"], "expected at least one argument"),
        (["--ckpt_path", ""], "--ckpt_path must name the model, or be last; got none."),
        (
            ["--ckpt_path", "x.ckpt", "--config", "tessera"],
            "--config must be left out with --ckpt_path: it has a model.",
        ),
        (["--device", "abacus"], "--device must be auto, cpu or cuda, got abacus."),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder."),
        (["--seconds", "1"], "unrecognized arguments: --seconds 1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["map", *arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tessera bench") and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt_path", "none.ckpt"], "none.ckpt is no checkpoint: there is no such file."),
        (["--ckpt_path", "small.yaml"], "small.yaml is torn or no checkpoint."),
        (["--ckpt_path", "last", "--run_name", "a/b"], "run_name must be letters"),
        (["--ckpt_path", "last", "--run_name", "never"], "no checkpoints/never/version_*/last."),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_checkpoint_that_cannot_be_used_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert command.main(["map", "--device", "cpu", *arguments]) == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tessera: ") and message in line


@pytest.mark.gpu
def test_maps_on_a_gpu_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "quickstart", "--board_size", "5", "--moves", "5", "--device", "cuda"]
    assert command.main(["map", *options]) == 0
    rows = capsys.readouterr().out.splitlines()[3:]
    assert [what in row for what, row in zip(WHATS + OF_GTP, rows, strict=False)].count(True) == 6
    assert len(rows) == 6
