"""``tessera bench engine``: what it prints was counted and timed, and what is absent says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tessera.commands import bench
from tessera.commands.engine_speed import Costs, Speed, time_games, time_mask_and_play, time_parts
from tessera.commands.rivals import NotMeasuredError, time_open_spiel, time_pgx
from tessera.go import play_games

CPU = torch.device("cpu")
TINY = ["engine", "--board_size", "3", "--batch_size", "6", "--seconds", "0.01"]


@pytest.fixture
def no_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the extra: importing either rival fails."""
    for module in ("pgx", "pyspiel"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.usefixtures("no_rivals")
def test_the_table_and_the_json_say_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "bench.json"
    assert bench.main([*TINY, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert len(report["speeds"]) == 3
    for row in report["speeds"]:
        assert row["plies"] > 0 and row["seconds"] > 0
        assert row["plies_per_s"] == pytest.approx(row["plies"] / row["seconds"])
        (line,) = [line for line in printed.splitlines() if row["what"] in line]
        assert f"{row['plies_per_s']:,.0f}" in line
    whats = [row["what"] for row in report["speeds"]]
    assert ["uniform" in whats[0], "rule-based" in whats[1], "mask" in whats[2]] == [True] * 3
    assert "What bounds it" in printed


@pytest.mark.usefixtures("no_rivals")
def test_a_rival_that_is_not_installed_is_a_row_that_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench.main(TINY) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("PGX", "OpenSpiel"):
        (line,) = [line for line in lines if line.startswith(name)]
        assert "not installed" in line and "tessera[rivals]" in line
        assert not any("times as fast" in line for line in lines)


def test_plies_of_whole_games_are_those_of_their_records() -> None:
    for player in ("uniform", "rules"):
        speed = time_games(player, 4, 10, CPU, seconds=1e-9)
        record = play_games(player, range(10), seed=0, board_size=4)
        assert speed.plies == int(record.lengths.sum())
        assert speed.seconds > 0


def test_longer_runs_play_more_games_for_at_least_the_time() -> None:
    speed = time_games("uniform", 2, 5, CPU, seconds=0.3)
    assert speed.seconds >= 0.3
    assert speed.plies > int(play_games("uniform", range(5), seed=0, board_size=2).lengths.sum())


def test_mask_and_play_counts_one_ply_for_each_game_that_goes_on() -> None:
    assert time_mask_and_play(5, 7, CPU, seconds=1e-9).plies == 7
    # Through several games: never more plies than games that could have been played.
    speed = time_mask_and_play(2, 3, CPU, seconds=0.2)
    assert speed.plies > 3 * 8
    assert speed.seconds >= 0.2


def test_costs_are_means_of_what_was_timed() -> None:
    costs = time_parts(3, 4, CPU, seconds=10)
    assert costs.plies == 9
    assert min(costs.mask_ms, costs.choice_ms, costs.play_ms, costs.one_game_ms) > 0


def test_ratios_compare_uniform_games_with_each_rival() -> None:
    ours = Speed("Tessera", "uniform games, records included", 4, 1000, 2.0)
    theirs = Speed("PGX 1", "random play", 1, 50, 1.0)
    costs = Costs(4, 9, 1.0, 2.0, 3.0, 0.6)
    report = bench.Report("a machine", 19, (ours, theirs), {"OpenSpiel": "not here"}, costs)
    assert report.ratios() == {"PGX 1": 10.0}
    text = "\n".join(bench.lines(report))
    assert "10 times as fast as PGX 1" in text
    assert "takes 6.0 ms" in text and "10% of that" in text
    assert "OpenSpiel          not here" in text


def test_open_spiel_is_timed_where_it_is_installed() -> None:
    pytest.importorskip("pyspiel", reason="OpenSpiel is in the extra rivals")
    speed = time_open_spiel(5, "cpu", seconds=0.05)
    assert speed.name.startswith("OpenSpiel ") and speed.plies > 100
    assert 0.05 <= speed.seconds < 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # jax's own, which differ from release to release
def test_pgx_is_timed_where_it_is_installed() -> None:
    pytest.importorskip("pgx", reason="PGX is in the extra rivals")
    speed = time_pgx(9, "cpu", seconds=0.3)
    assert speed.name.startswith("PGX ") and speed.plies > 0


def test_pgx_has_no_other_boards_than_its_own() -> None:
    pytest.importorskip("pgx", reason="PGX is in the extra rivals")
    with pytest.raises(NotMeasuredError, match="9×9 and 19×19"):
        time_pgx(5, "cpu", seconds=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board_size", "1"], "--board_size must be 2 to 19, got 1."),
        (["--board_size", "25"], "--board_size must be 2 to 19, got 25."),
        (["--board_size", "nine"], "invalid int value: 'nine'"),
        (["--batch_size", "0"], "--batch_size must be at least 1, got 0."),
        (["--seconds", "0"], "--seconds must be more than 0, got 0.0."),
        (["--seconds", "nan"], "--seconds must be more than 0, got nan."),
        (["--threads", "0"], "--threads must be at least 1, got 0."),
        (["--device", "abacus"], "--device must be auto, cpu or cuda, got abacus."),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder."),
        (["--board", "9"], "unrecognized arguments: --board 9"),
        (["--threads", "0", "--board_size", "1"], "2 to 19, got 1. --threads must be at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["engine", *arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tessera bench") and message in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([*TINY, "--device", "cuda"])
    assert ended.value.code == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err


def test_what_to_bench_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["engines"]):
        with pytest.raises(SystemExit) as ended:
            bench.main(arguments)
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
