"""``tessera bench engine``: what it prints was counted and timed, and what is absent says so."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.commands.bench import command, engine_report, engine_speed, train_speed
from tessera.commands.bench.engine_limit import COUNTERS, read_counters
from tessera.commands.bench.engine_speed import (
    Costs,
    Run,
    Speed,
    Timing,
    time_games,
    time_parts,
    time_playouts,
    time_plies,
    time_settled,
)
from tessera.commands.bench.rivals import NotMeasuredError, time_open_spiel, time_pgx
from tessera.go import GameRecord, GPUGoEngine, play_games, play_out

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
    assert command.main([*TINY, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert len(report["speeds"]) == 7
    for row in report["speeds"]:
        ((plies, seconds),) = row["runs"]
        assert plies > 0 and seconds > 0
        assert row["plies_per_s"] == pytest.approx(plies / seconds)
        (line,) = [line for line in printed.splitlines() if f"{row['what']}  " in line]
        assert f"{row['plies_per_s']:,.0f}" in line
    whats = [row["what"] for row in report["speeds"]]
    expected = ("uniform games", "rule-based games", "and boards", "uniform playouts")
    expected += ("rule-based playouts", "mask", "settled")
    for what, said in zip(whats, expected, strict=True):
        assert said in what
    assert "What bounds it" in printed


@pytest.mark.usefixtures("no_rivals")
def test_selfplay_is_timed_beside_the_step_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["selfplay", *TINY[1:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    for what in ("self-play, one block", "step of the model alone, 4 blocks"):
        (line,) = [line for line in lines if line.startswith("Tessera") and what in line]
        assert int(line.split("one run")[0].split()[-1].replace(",", "")) > 0
    assert any(line.startswith("mamba_ssm, one block") and "needs" in line for line in lines)


def test_training_is_timed_with_what_generating_its_games_costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(train_speed, "SHAPES_ON_A_CPU", ((2, 8),))
    monkeypatch.setattr(train_speed, "D_MODEL", 16)
    file = tmp_path / "train.json"
    options = ["--board_size", "3", "--seconds", "0.01", "--json", str(file)]
    assert command.main(["train", *options]) == 0
    printed, said = capsys.readouterr()
    assert "timing 2×8, 1 block ...\n" in said and "timing 2×8, 4 blocks ...\n" in said
    rows = [line for line in printed.splitlines() if line.startswith("Tessera")]
    assert [row.split("  ")[0] for row in rows[:3]] == ["Tessera", "Tessera", "Tessera, board"]
    assert all(row.endswith(" –") for row in rows[:3])
    assert "its convolutions alone reach" in rows[3]
    assert re.search(r"^mamba_ssm +needs a CUDA device$", printed, re.MULTILINE)
    assert "GB/s in a copy" in printed
    report = json.loads(file.read_text())
    one, four, board = report["speeds"]
    assert (board["num_blocks"], board["sequences"]) == (1, 8) and board["tokens_per_s"] > 0
    # At least forward and backward of the convolutions, of 16 channels on 3×3.
    convolutions = report["convolutions"]
    assert board["flops"] > convolutions["flops"] > 6 * 3 * 9 * 16 * 16 * 9 * 8 * board["length"]
    assert convolutions["seconds"] > 0
    assert (one["num_blocks"], four["num_blocks"]) == (1, 4)
    assert one["tokens_per_s"] > 0 and one["generation_ratio"] is None
    # Forward and backward of the head alone: 2 · 16 · 12 operations a token, three times.
    assert 6 * 16 * 12 * 16 < one["flops"] < four["flops"] < 4 * one["flops"]
    assert 0 < one["bytes_moved"] < four["bytes_moved"]
    assert all(value > 0 for value in report["ceilings"].values())


def test_a_step_fed_with_games_is_timed_over_whole_chunks() -> None:
    shapes: list[tuple[int, ...]] = []

    def step(tokens: torch.Tensor, targets: torch.Tensor) -> None:
        assert tokens.shape == targets.shape
        shapes.append(tuple(tokens.shape))

    assert train_speed.seconds_with_games(step, 3, 2, 8, CPU) > 0
    assert set(shapes) == {(2, 8)} and len(shapes) % 2 == 0  # a chunk before, and one timed


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        (0.031, "3.10%"),
        *((ratio, "in the noise") for ratio in (0.012, 0.0, -0.02, -0.14)),
        (None, "–"),
    ],
)
def test_a_cost_of_games_that_is_no_larger_than_the_runs_differ_is_told_so(
    measured: float | None, shown: str
) -> None:
    rates = {"tokens_per_s": 1000.0, "slowest": 980.0, "fastest": 1010.0}
    speed = train_speed.TrainSpeed(
        "Tessera",
        1,
        8,
        64,
        **rates,
        peak_mb=50.0,
        flops=1,
        bytes_moved=1,
        generation_ratio=measured,
    )
    ceilings = train_speed.Ceilings(1e12, 1e12)
    report = train_speed.TrainReport("a machine", 19, (speed,), {}, ceilings)
    (row,) = [line for line in report.lines() if line.startswith("Tessera ")]
    assert row.rpartition("  ")[2] == shown
    assert speed.generation_ratio == measured


def test_training_is_compared_with_the_same_shape_and_depth() -> None:
    def speed(name: str, blocks: int, rate: float, peak: float) -> train_speed.TrainSpeed:
        figures = {"slowest": rate, "fastest": rate, "peak_mb": peak, "flops": 10**9}
        return train_speed.TrainSpeed(
            name, blocks, 512, 64, rate, **figures, bytes_moved=None, generation_ratio=None
        )

    speeds = (speed("Tessera", 1, 900.0, 50), speed("Tessera", 4, 300.0, 90))
    speeds += (speed("mamba_ssm 2", 4, 100.0, 100),)
    ceilings = train_speed.Ceilings(1e12, 1e12)
    report = train_speed.TrainReport("a machine", 19, speeds, {}, ceilings)
    (line,) = [line for line in report.lines() if "times as fast" in line]
    said = (
        "Tessera, 4 blocks, 512×64: 3.00 times as fast as mamba_ssm 2, with 0.90 times its memory."
    )
    assert line == said


@pytest.mark.usefixtures("no_rivals")
def test_a_rival_that_is_not_installed_is_a_row_that_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(TINY) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("PGX", "OpenSpiel"):
        (line,) = [line for line in lines if line.startswith(name)]
        assert "not installed" in line and "tessera[rivals]" in line
        assert not any("times as fast" in line for line in lines)


def once(seconds: float = 1e-9) -> Timing:
    return Timing(CPU, seconds, runs=1)


def test_plies_of_whole_games_are_those_of_their_records() -> None:
    for player in ("uniform", "rules"):
        (run,) = time_games(player, 4, 10, once()).runs
        record = play_games(player, range(10), seed=0, board_size=4)
        assert run.num_done == int(record.lengths.sum())
        assert run.seconds > 0


def test_games_with_boards_are_those_without_and_hold_their_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = []

    def play(*given: Any, **options: Any) -> GameRecord:
        held.append(play_games(*given, **options))
        return held[-1]

    monkeypatch.setattr(engine_speed, "play_games", play)
    runs = [time_games("rules", 4, 10, once(), with_board=board).runs[0] for board in (True, False)]
    assert runs[0].num_done == runs[1].num_done
    assert [record.board is not None for record in held] == [True, True, False, False]


def test_longer_runs_play_more_games_for_at_least_the_time() -> None:
    speed = time_games("uniform", 2, 2, Timing(CPU, 1.0, runs=2))
    first = int(play_games("uniform", range(2), seed=0, board_size=2).lengths.sum())
    assert len(speed.runs) == 2
    for run in speed.runs:
        assert run.seconds >= 0.5 and run.num_done > first


def test_given_moves_are_counted_while_their_games_go_on() -> None:
    played = play_games("uniform", range(7), seed=0, board_size=5)
    speed = time_plies(5, 7, once())
    (run,) = speed.runs
    assert run.num_done == int(played.lengths.clamp(max=int(played.lengths.float().mean())).sum())
    engine = GPUGoEngine(7, "cpu", 5)
    assert speed.bytes_per_game == engine.num_bytes() / 7


def test_settled_points_are_found_in_positions_from_all_stages_of_a_game() -> None:
    speed = time_settled(5, 7, once())
    (run,) = speed.runs
    assert run.num_done == 10 * 7 and run.seconds > 0
    assert time_settled(2, 3, once()).runs[0].num_done % 3 == 0


def test_plies_of_playouts_are_those_after_positions_half_way_through_games() -> None:
    for player, batch, positions, games in (("rules", 6, 1, 6), ("uniform", 2050, 2, 1025)):
        speed = time_playouts(player, 3, batch, once())
        record = play_games(player, range(positions), seed=0, board_size=3)
        engine = GPUGoEngine(positions, "cpu", 3)
        for moves in record.moves[:, : int(record.lengths.float().mean()) // 2].long().t():
            engine.play_batch(moves)
        assert engine.move_number.min() > 0
        played = play_out(engine, games, player=player, seed=0)
        (run,) = speed.runs
        assert (run.num_done, speed.batch_size) == (int(played.plies.sum()), positions * games)
        assert run.seconds > 0


def test_a_speed_is_the_median_of_its_runs() -> None:
    runs = tuple(Run(plies, 2.0) for plies in (20, 2000, 10))
    assert Speed("Tessera", "games", 19, 4, runs).plies_per_s == 10.0


def test_costs_are_means_of_what_was_timed() -> None:
    costs = time_parts(3, 4, CPU, seconds=10)
    assert costs.plies == 9
    assert min(costs.mask_ms, costs.choice_ms, costs.play_ms, costs.one_game_ms) > 0


def test_ratios_compare_rows_on_the_same_board() -> None:
    ours = Speed("Tessera", "uniform games", 19, 4, (Run(1000, 2.0),))
    small = Speed("Tessera", "uniform games", 9, 4, (Run(7000, 1.0),))
    theirs = Speed("PGX 1", "random play", 19, 1, (Run(50, 1.0),), 25_300)
    costs = Costs(4, 9, 1.0, 2.0, 3.0, 0.6)
    missing = {"OpenSpiel": "not here"}
    report = engine_report.EngineReport(
        "a machine", (ours, small, theirs), missing, costs, {}, None
    )
    assert report.ratios() == [(ours, theirs, 10.0)]
    settled = Speed("Tessera", "settled points", 19, 4, (Run(9, 1.0),), group="settled")
    assert replace(report, speeds=(settled, theirs)).ratios() == []
    text = "\n".join(report.lines())
    assert "10 times as fast as PGX 1" in text and "25,300" in text
    assert "takes 6.0 ms" in text and "10% of that" in text
    assert "OpenSpiel  not here" in report.lines()
    assert report.lines()[3].endswith("one run           –")


def test_kernels_report_the_chips_limits_and_the_census() -> None:
    limits = {"uniform": {"integer units": 0.756, "memory": 0.01}}
    census = engine_report.Census(2, 57, 1.25)
    report = engine_report.EngineReport("a machine", (), {}, None, limits, census)
    text = "\n".join(report.lines())
    assert "integer units 76%, memory 1%" in text
    assert "Legal positions on 2×2, counted one by one: 57 in 1.2 s." in text


def test_the_counters_of_the_profiler_are_shares_and_what_it_could_not_read_is_absent() -> None:
    first, second, *_ = COUNTERS
    output = f'''==PROF== Connected to process 7
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","play_games_kernel","{first}","%","76.25"
"0","play_games_kernel","{second}","%","n/a"
"0","play_games_kernel","something__else","%","1"
'''
    assert read_counters(output) == {COUNTERS[first]: 0.7625}
    assert read_counters("==ERROR== ERR_NVGPUCTRPERM - no permission") == {}


def test_a_batch_of_whole_games_fits_into_half_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda")
    for gigabytes, games, boards in ((1, 32_768, 1024), (8, 65_536, 8192), (100, 65_536, 65_536)):
        free = gigabytes * 2**30
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2**40))
        assert engine_report.whole_games_batch(19, gpu) == games
        assert engine_report.whole_games_batch(19, gpu, ["board"]) == boards
        assert boards * 722 * (12 + 5 * 19 * 4) <= free // 2
    assert engine_report.whole_games_batch(9, gpu) == 262_144


@pytest.mark.gpu
def test_moves_alone_are_those_of_the_records_on_a_gpu() -> None:
    timing = Timing(torch.device("cuda"), 1e-9, runs=1)
    ours, whole = (time_games("uniform", 9, 50, timing, tokens).runs[0] for tokens in (True, False))
    assert ours.num_done == whole.num_done


def test_open_spiel_is_timed_where_it_is_installed() -> None:
    pytest.importorskip("pyspiel", reason="OpenSpiel is in the extra rivals")
    speed = time_open_spiel(5, once(0.05))
    (run,) = speed.runs
    assert speed.name.startswith("OpenSpiel ") and run.num_done > 100
    assert 0.05 <= run.seconds < 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # jax's own, which differ from release to release
def test_pgx_is_timed_where_it_is_installed() -> None:
    pytest.importorskip("pgx", reason="PGX is in the extra rivals")
    speed = time_pgx(9, once(0.1))
    assert speed.name.startswith("PGX ") and speed.runs[0].num_done > 0
    assert speed.bytes_per_game is not None and speed.bytes_per_game > 1000


def test_pgx_has_no_other_boards_than_its_own() -> None:
    pytest.importorskip("pgx", reason="PGX is in the extra rivals")
    with pytest.raises(NotMeasuredError, match="9×9 and 19×19"):
        time_pgx(5, once())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board_size", "1"], "--board_size must be 2 to 19, got 1."),
        (["--board_size", "25"], "--board_size must be 2 to 19, got 25."),
        (["--board_size", "nine"], "invalid int value: 'nine'"),
        (["--batch_size", "0"], "--batch_size must be at least 1, got 0."),
        (["--seconds", "0"], "--seconds must be more than 0, got 0.0."),
        (["--seconds", "nan"], "--seconds must be more than 0, got nan."),
        (["--seconds", "1e300"], "--seconds must be at most 3600, got 1e+300."),
        (["--runs", "1000000000000"], "--runs must be at most 1000, got 1000000000000."),
        (["--threads", "1000000000"], "--threads must be at most 1024, got 1000000000."),
        (
            ["--batch_size", "1000000000000", "--board_size", "3"],
            "--batch_size must be less, got 1000000000000: so many games need ",
        ),
        (["--runs", "0"], "--runs must be at least 1, got 0."),
        (["--board_size", "9", "20"], "--board_size must be 2 to 19, got 20."),
        (["--threads", "0"], "--threads must be at least 1, got 0."),
        (["--device", "abacus"], "--device must be auto, cpu or cuda, got abacus."),
        (["--json", ""], "--json must name a file, got none."),
        (["--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder."),
        (["--board", "9"], "unrecognized arguments: --board 9"),
        (["--threads", "0", "--board_size", "1"], "2 to 19, got 1. --threads must be at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["engine", *arguments])
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
        command.main([*TINY, "--device", "cuda"])
    assert ended.value.code == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err


def test_what_to_bench_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["engines"]):
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
