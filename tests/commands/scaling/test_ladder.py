"""``tessera scaling`` whole: trunks, rungs, runs.csv, the fit; going on, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tessera.commands.arguments import parted
from tessera.commands.compare.training import run_one
from tessera.commands.quiet import quieten
from tessera.commands.scaling import climb as climbing
from tessera.commands.scaling import dry_run
from tessera.commands.scaling.ladder import STABLE, ladders_of
from tessera.commands.scaling.options import OF_FIT, options_of, parser
from tessera.commands.scaling.trunk import Trunk
from tessera.training.run_lock import RunLock
from tests.runs import tessera

# A step has 16 games of 21 tokens or somewhat fewer.
TINY = """
data: {board_size: 5, player: uniform, context: null, max_moves: 20, batch_size: 16,
  games_per_chunk: 64, val_batches: 1, test_batches: 2}
model: {d_model: 8, d_state: 4, lr: 0.01, warmup_steps: 3}
"""
LADDER = ("tiny.yaml", "--tokens", "3000,5000,8000,13000", "--folder", "out")
FITS = ("--replicates", "20")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    """A folder where the ladder was trained, and what was printed; nobody changes it."""
    place = tmp_path_factory.mktemp("whole")
    (place / "tiny.yaml").write_text(TINY)
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(place)
        assert scale() == 0
    yield place, out.getvalue(), err.getvalue()


def scale(*more: object) -> int:
    return tessera("scaling", *LADDER, *FITS, *more)


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def figures(folder: Path) -> list[dict[str, str]]:
    """What every run has found, without what time and place have to do with it."""
    kept = ("run_id", "status", "D", "C", "loss", "excess_nats", "excess_se", "legal_top1", "steps")
    return [{name: line[name] for name in kept} for line in lines(folder)]


def ladders(*more: str) -> list[Any]:
    own, fit = parted([*LADDER, *more], OF_FIT)
    options, problems = options_of(parser().parse_args(own), fit)
    assert not problems
    return ladders_of(options)[1]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_ladder_is_trained_and_fitted(whole: tuple[Path, str, str]) -> None:
    folder, out, err = whole
    assert "## tiny.yaml: 5×5, uniform" in out and "runs:     out/runs.csv" in out
    assert err.count("tokens: excess_nats") == 4
    found = lines(folder)
    assert [line["status"] for line in found] == ["done"] * 4
    assert {line["phase"] for line in found} == {"report"}
    tokens = [int(line["D"]) for line in found]
    for asked, trained in zip((3000, 5000, 8000, 13000), tokens, strict=True):
        assert trained == pytest.approx(asked, rel=0.1)
    # All were tested on the same games.
    assert len({line["floor_nats"] for line in found}) == 1
    place = folder / "out"
    assert (place / "scaling.md").read_text().strip() in out
    (row,) = json.loads((place / "scaling.json").read_text())["rows"]
    assert [run["tokens"] for run in row["runs"]] == tokens
    with Image.open(place / "scaling.png") as picture:
        assert picture.width == 600
    # Of the trunk only its end is kept, to go on from.
    (trunk,) = (place / "trunks").iterdir()
    assert files(trunk) == ["last.ckpt"]
    assert all(files(run) == ["result.json", "settings.yaml"] for run in (place / "runs").iterdir())


def test_rungs_that_are_there_are_used_again(
    whole: tuple[Path, str, str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is there already")

    shutil.copytree(whole[0] / "out", folder / "out")
    monkeypatch.setattr(climbing, "run_one", refuse)
    monkeypatch.setattr(Trunk, "grow", refuse)
    assert scale() == 0
    assert (folder / "out" / "scaling.md").read_text().strip() in capsys.readouterr().out
    assert figures(folder) == figures(whole[0])
    assert scale("--floor", "9") == 2
    assert "--floor must be below" in capsys.readouterr().err
    assert scale("--dry-run", "--json", "-") == 0
    (planned,) = json.loads(capsys.readouterr().out)["ladders"]
    assert planned["done"] == planned["rungs"] == 4 and planned["tokens"] == 0


def test_a_rung_has_the_bits_of_a_run_that_was_trained_alone(
    whole: tuple[Path, str, str], folder: Path
) -> None:
    quieten()
    (ladder,) = ladders()
    rung = ladder.rungs[1]
    alone = run_one(rung.run.settings, folder / "alone", lambda told: None, ladder.counted)
    result = json.loads((whole[0] / "out" / "runs" / rung.run.run_id / "result.json").read_text())
    for name in ("D", "C", "loss", "excess_nats"):
        assert alone["figures"][name] == result["figures"][name]
    assert alone["per_game"] == result["per_game"]


def test_what_was_interrupted_goes_on_with_the_same_bits(
    whole: tuple[Path, str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for begins_with, nth, done in (("stable", 20, 0), ("8,000", 3, 2)):
        with pytest.MonkeyPatch.context() as patch:
            stop_in(patch, begins_with, nth)
            assert scale() == 128 + signal.SIGTERM
        err = capsys.readouterr().err
        assert f"stopped by SIGTERM; {done} of 4 rungs are done; the same command goes on." in err
        states = [line["status"] for line in lines(folder)]
        assert states[:done] == ["done"] * done and not {"done", "running"} & {*states[done:]}
    assert scale() == 0
    assert figures(folder) == figures(whole[0])


def stop_in(patch: pytest.MonkeyPatch, name: str, nth: int) -> None:
    """Send a signal at a step of the run that has this in its name."""
    begin, move = climbing.LadderBar.begin, climbing.LadderBar.move
    state = {"name": "", "steps": 0}

    def begin_it(bar: Any, run: str, *more: Any) -> None:
        state.update(name=run, steps=0)
        begin(bar, run, *more)

    def move_it(bar: Any, told: Any) -> None:
        move(bar, told)
        state["steps"] = int(state["steps"]) + 1
        if name in str(state["name"]) and state["steps"] == nth:
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(climbing.LadderBar, "begin", begin_it)
    patch.setattr(climbing.LadderBar, "move", move_it)


@pytest.mark.slow
def test_more_budgets_go_on_from_the_trunk_and_have_the_same_bits(
    whole: tuple[Path, str, str], folder: Path
) -> None:
    more = ("tiny.yaml", "--tokens", "3000,4000,5000,8000,13000,15000", *FITS)
    assert tessera("scaling", *more, "--folder", "out") == 0
    shutil.copytree(whole[0] / "out", folder / "more")
    assert tessera("scaling", *more, "--folder", "more") == 0
    at_once = figures(folder)
    shutil.rmtree(folder / "out")
    (folder / "more").rename(folder / "out")
    assert figures(folder) == at_once


@pytest.mark.slow
def test_sizes_and_seeds_are_ladders_of_one_row(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scale("--sizes", "4,6,8", "--seeds", "0,3", "--floor", "known", "--json", "-") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    found = lines(folder)
    assert len(found) == 24 and {line["row"] for line in found} == {"tiny.yaml"}
    assert len({line["run_id"] for line in found}) == 24
    assert len({line["N"] for line in found}) == 3 == len(row["laws"][0]["N"])
    # Other weights and other games to train on; the same to be tested on.
    assert len({line["loss"] for line in found}) == 24
    assert len({line["floor_nats"] for line in found}) == 1


def test_the_learning_rate_of_rungs_is_the_trunks_until_they_leave_it(folder: Path) -> None:
    (ladder,) = ladders("--cooldown", "0.5")
    assert ladder.trunk["model"]["stable_steps"] == STABLE
    for rung in ladder.rungs:
        model = rung.run.settings["model"]
        assert model["stable_steps"] == rung.branch == pytest.approx(rung.steps / 2, abs=1)
        assert model["decay_steps"] == rung.steps == rung.run.settings["trainer"]["max_steps"]
        same = {**model, "stable_steps": STABLE, "decay_steps": None}
        assert same == ladder.trunk["model"]
        assert rung.run.settings["data"] == ladder.trunk["data"]


def test_a_dry_run_keeps_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/theirs").touch()  # Lightning warns of it where it is to save anything
    threads = torch.get_num_threads()
    used = list[int]()
    measure = dry_run.measure

    def noted(*asked: Any) -> Any:
        used.append(torch.get_num_threads())
        return measure(*asked)

    monkeypatch.setattr(dry_run, "measure", noted)
    assert scale("--dry-run", "--cpu_threads", threads + 1) == 0
    assert used == [threads + 1] and torch.get_num_threads() == threads
    out = capsys.readouterr().out
    assert out.startswith("row ") and "expected time" in out
    assert files(folder) == ["checkpoints", "tiny.yaml"]
    assert files(folder / "checkpoints") == ["theirs"]


def test_a_folder_that_is_being_written_to_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").mkdir()
    lock = RunLock()
    lock.take(folder / "out")
    assert scale() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "out is being written to by process" in line and line.endswith("another --folder.")
    lock.release()
    assert files(folder / "out") == []


@pytest.mark.slow
def test_what_diverges_is_a_line_and_the_others_are_fitted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "wild.yaml").write_text(TINY.replace("lr: 0.01", "lr: 1.0e+30"))
    assert tessera("scaling", "wild.yaml", *LADDER, *FITS) == 1
    out, err = capsys.readouterr()
    assert "## tiny.yaml" in out and "wild.yaml" not in out
    assert err.count("tessera: wild.yaml, seed 0") == 4 and "not finite" in err
    assert [line["status"] for line in lines(folder)] == ["failed"] * 4 + ["done"] * 4
    capsys.readouterr()
    # It is not tried again; of nothing there is no fit.
    assert tessera("scaling", "wild.yaml", *LADDER[1:], *FITS) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 4
    assert tessera("scaling", "wild.yaml", *LADDER, *FITS) == 1


REAL = """
data: {board_size: 3, player: uniform, context: null, max_moves: 16, batch_size: 16,
  games_per_chunk: 512, val_batches: 1, test_batches: 64}
model: {features: board, head: points, board: {channels: 8, depth: 1}, d_model: 16, d_state: 4,
  lr: 0.005, warmup_steps: 20}
"""


@pytest.mark.slow
def test_a_model_that_sees_the_board_falls_towards_the_known_floor(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "real.yaml").write_text(REAL)
    ends = ("--from", "1e4", "--to", "3e5", "--rungs", "6", "--json", "-")
    assert tessera("scaling", "real.yaml", *ends, "--folder", "out") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    excess = [run["excess_nats"] for run in row["runs"]]
    assert excess == sorted(excess, reverse=True)
    assert excess[0] > 0.5 and excess[-1] < 0.05
    # Every legal move of this player's is equally likely: its loss is its entropy.
    assert row["player_loss"] == pytest.approx(row["runs"][0]["floor_nats"], abs=1e-4)
    known, free = row["laws"]
    assert 0.7 < known["beta"] < 1.7 and known["rms"] < 0.3
    assert abs(free["off"]) < 0.1
    lines_of = {line["of"]: line for line in row["lines"]}
    assert lines_of["excess"]["r_squared"] > 0.95 > lines_of["loss"]["r_squared"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: ROW"),
        (["tiny.yaml"], "either --tokens or --from and --to must say the budgets."),
        (["tiny.yaml", "--tokens", "1e3,2e3"], "--tokens must be 4 to 64 budgets, got 2."),
        (["tiny.yaml", "--tokens", "1,x"], "--tokens must be different whole numbers from 1 to"),
        (["tiny.yaml", "--tokens="], "got nothing."),
        (["tiny.yaml", "--from", "1e3"], "--to must be a whole number of tokens, such as 1e6, got"),
        (["tiny.yaml", "--from", "1e4", "--to", "1e3"], "--to must be more than --from, 10,000,"),
        (["tiny.yaml", "--from", "1e3", "--to", "1e4", "--rungs", "3"], "--rungs must be 4 to 64"),
        ([*LADDER, "--from", "3"], "either --tokens or --from and --to must say the budgets."),
        ([*LADDER, "--cooldown", "1"], "--cooldown must be more than 0 and less than 1, got 1."),
        ([*LADDER, "--seeds", "1,1"], "--seeds must be different whole numbers, 0 to"),
        ([*LADDER, "--seeds="], "--seeds must be at least one, got none."),
        ([*LADDER, "--sizes", "0"], "--sizes must be different whole numbers of at least 1"),
        ([*LADDER, "--sizes", "8", "--model.d_model", "8"], "--model.d_model is the ladder's own"),
        ([*LADDER, "--trainer.max_steps", "9"], "--trainer.max_steps is the ladder's own: see"),
        ([*LADDER, "--model.stable_steps=9"], "--model.stable_steps is the ladder's own: see"),
        ([*LADDER, "--floor", "low"], "--floor must be known, free or a number of nats, got low."),
        ([*LADDER, "--picture", "a.pdf"], "--picture must end in .png or .svg, got a.pdf."),
        ([*LADDER, "--model.d_model", "0"], "model.d_model must be a whole number of at least 1"),
        ([*LADDER, "--sizes", "8", "--model.foo", "3"], "--model.foo is no setting."),
        ([*LADDER, "--data.context", "8"], "tiny.yaml: data.context must be null: only of whole"),
        ([*LADDER, "--data.batch_size", "64"], "--tokens must be at least 8 steps, and a step has"),
        (["tiny.yaml", "--tokens", "5000,5010,8000,9000"], "--tokens must be further apart, and a"),
        ([*LADDER, "--model.warmup_steps", "90"], "model.warmup_steps must be at most"),
        (["none", *LADDER[1:]], "config must be a file or one of any_board"),
        ([*LADDER, "--folder", "tiny.yaml"], "--folder"),
    ],
)
def test_a_mistake_is_a_line(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert tessera("scaling", *arguments) == 2
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and message in line
    assert files(folder) == ["tiny.yaml"]
