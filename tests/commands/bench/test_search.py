"""``tessera bench search``: every figure was counted and timed, of any model of positions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tessera.commands.bench import command
from tessera.commands.bench.engine_speed import Run
from tessera.commands.bench.search_speed import SearchReport, SearchSpeed, new_model
from tests.runs import fit

TINY = ["search", "--batch_size", "3", "--seconds", "0.01", "--device", "cpu"]


def test_the_table_and_the_json_say_what_was_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "search.json"
    options = ["--board_size", "3", "4", "--simulations", "0", "5", "--channels", "4"]
    assert command.main([*TINY, *options, "--depth", "1", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert "timing 4 channels, depth 1, 4×4, 5 simulations ...\n" in printed.err
    report = json.loads(file.read_text())
    rows = [(row["board_size"], row["num_simulations"]) for row in report["speeds"]]
    assert rows == [(3, 0), (3, 5), (4, 0), (4, 5)]
    lines = printed.out.splitlines()[3:]
    for row, line in zip(report["speeds"], lines, strict=True):
        ((moves, seconds),) = row["runs"]
        assert moves >= 3 and row["moves_per_s"] == pytest.approx(moves / seconds)
        evaluations = row["moves_per_s"] * (row["num_simulations"] + 1)
        assert row["evaluations_per_s"] == pytest.approx(evaluations)
        assert min(row["ply_s"], row["net_s"], row["engine_s"]) > 0
        shares = [row[f"{name}_ratio"] for name in ("net", "engine", "rest")]
        assert sum(share or 0 for share in shares) == pytest.approx(1)
        net_s, engine_s = (
            row[name] * (row["num_simulations"] + 1) for name in ("net_s", "engine_s")
        )
        assert shares[0] == pytest.approx(net_s / max(row["ply_s"], net_s + engine_s))
        assert f" {row['moves_per_s']:,.0f} " in line and line.startswith("4 channels, depth 1 ")
        assert row["peak_mb"] is None and line.endswith("–")


def test_shares_are_of_what_took_longer_the_ply_or_its_parts_alone() -> None:
    speed = SearchSpeed("x", 9, 1, 4, (Run(8, 2.0),), 1.0, 0.4, 0.2, None)
    assert speed.shares == (pytest.approx(2 / 3), pytest.approx(1 / 3), None)
    row = SearchReport("a machine", (speed,)).lines()[-1].split()
    assert row[-4:] == ["67%", "33%", "–", "–"]
    assert row[4] == "4" and speed.evaluations_per_s == 8
    slower = replace(speed, ply_s=1.6)
    assert slower.shares == pytest.approx((0.5, 0.25, 0.25))


def test_a_checkpoint_is_searched_by_its_own_rules(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = ["--model.features", "board", "--model.mixer", "identity", "--model.head", "points"]
    board += ["--model.outcome", "win_and_score", "--model.board.channels", 4]
    assert fit("--trainer.max_steps", 1, *board) == 0
    capsys.readouterr()
    options = ["--ckpt_path", "last", "--run_name", "small", "--simulations", "2"]
    assert command.main([*TINY, *options]) == 0
    (row,) = capsys.readouterr().out.splitlines()[3:]
    assert row.startswith("checkpoints/small/version_0/last.ckpt  3×3 ")
    assert command.main([*TINY, *options, "--board_size", "5"]) == 2
    assert "board_size must be 3, the model's" in capsys.readouterr().err


def test_a_new_model_is_the_same_each_time() -> None:
    first, second = (new_model(5, 8, 1, torch.device("cpu")) for _ in range(2))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


@pytest.mark.gpu
def test_a_search_on_a_gpu_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--board_size", "5", "--batch_size", "64", "--seconds", "0.1", "--device", "cuda"]
    assert command.main(["search", *options]) == 0
    (row,) = capsys.readouterr().out.splitlines()[3:]
    assert int(row.split()[-1]) > 0
