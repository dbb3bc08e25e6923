"""A run of a comparison is a run of ``tessera fit``, and goes on with the same bits."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.commands.compare import run_checkpoint
from tessera.commands.compare.held_out import validation_points
from tessera.commands.compare.training import read_result, run_one
from tessera.commands.quiet import quieten
from tessera.training.checkpoint_file import read_checkpoint
from tessera.training.checkpointing import DivergedError
from tests.commands.compare.small_runs import settings, without_times, write_three
from tests.runs import tessera


def quiet(told: object) -> None:
    """Nobody wants to know."""


class Crashed(Exception):
    """In the middle of a step, as if the process was killed."""


SETTINGS = settings(keeps_checkpoint=True, test_on=["rules"])
COUNTED = {"flops_per_token": 10.0, "N": 7, "state_bytes": None}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[int]]:
    """The folder of a run that nobody interrupted, its result, and the steps that it told of."""
    folder, told = tmp_path_factory.mktemp("whole") / "run", list[int]()
    quieten()
    result = run_one(SETTINGS, folder, lambda each: told.append(each["step"]), COUNTED)
    return folder, result, told


Whole = tuple[Path, dict[str, Any], list[int]]


def test_a_run_trains_the_bits_of_fit(folder: Path, whole: Whole) -> None:
    write_three(folder)
    options = ["--config", "three.yaml", "--model.mixer", "mamba", "--seed_everything", "3"]
    options += ["--trainer.max_steps", "24", "--model.warmup_steps", "2", "--data.seed", "3"]
    assert tessera("fit", *options, "--trainer.accelerator", "cpu") == 0
    ours = read_checkpoint(whole[0] / "last.ckpt")["state_dict"]
    theirs = read_checkpoint(folder / "checkpoints/three/version_0/last.ckpt")["state_dict"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_says_what_it_measured(whole: Whole) -> None:
    path, result, told = whole
    assert read_result(path) == json.loads(json.dumps(result))
    assert told == list(range(1, 25))
    figures = result["figures"]
    assert figures["C"] == 30 * figures["D"]
    assert figures["N"] == 7 and "state_bytes" not in figures and "peak_mb" not in figures
    assert figures["seconds"] > 0
    assert figures["tokens_per_s"] == pytest.approx(figures["D"] / figures["seconds"])
    assert [point["step"] for point in result["curve"]] == validation_points(24, 8)
    assert result["curve"][-1]["tokens"] == figures["D"]
    for part in (result, result["tested"]["rules"]):
        games, own = part["per_game"], part["figures"]
        assert len(games["tokens"]) == 16
        mean = sum(games["excess_sum"]) / sum(games["tokens"])
        assert own["excess_nats"] == pytest.approx(mean, abs=1e-5)
        assert own["loss"] > own["floor_nats"] > 0
        assert sum(group["positions"] for group in part["captures"]) == sum(games["tokens"])
        parts = [group["excess_nats"] * group["positions"] for group in part["captures"]]
        assert sum(parts) == pytest.approx(sum(games["excess_sum"]), rel=1e-4)
    assert result["tested"]["rules"]["figures"]["floor_nats"] < figures["floor_nats"]


def test_held_out_games_are_the_same_for_every_seed(folder: Path) -> None:
    results = []
    for seed in (3, 4):
        own = settings(seed=seed, lr=1e-30, num_points=1)
        own["model"]["lr"] = 1e-30
        own["data"] |= {"seed": seed, "max_moves": 40}
        own["trainer"]["max_steps"] = 2
        results.append(run_one(own, folder / str(seed), quiet))
    first, second = results
    assert first["per_game"]["tokens"] == second["per_game"]["tokens"]
    assert first["figures"]["floor_nats"] == second["figures"]["floor_nats"]
    assert first["figures"]["D"] != second["figures"]["D"]  # trained on games of their own
    assert first["figures"]["loss"] != second["figures"]["loss"]  # and begun with their own weights


def test_a_run_that_was_killed_goes_on_with_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, whole: Whole
) -> None:
    monkeypatch.setattr(run_checkpoint, "_EVERY_S", 0.0)
    own = {**SETTINGS, "keeps_checkpoint": False}
    for step in (5, 16):  # there is a validation behind the step before each

        def kill(told: object, step: int = step) -> None:
            if told["step"] == step:  # type: ignore[index]
                raise Crashed

        with pytest.raises(Crashed):
            run_one(own, folder / "run", kill, COUNTED)
        saved = read_checkpoint(folder / "run" / "last.ckpt")["global_step"]
        assert 0 < saved < step and saved not in validation_points(24, 8)
        assert read_result(folder / "run") is None
    result = run_one(own, folder / "run", quiet, COUNTED)
    assert without_times(result) == without_times(whole[1])
    assert result["figures"]["seconds"] > 0
    assert not (folder / "run" / "last.ckpt").exists()


def test_a_run_that_ended_before_it_was_measured_is_only_measured(
    folder: Path, whole: Whole
) -> None:
    path, result, _ = whole
    shutil.copytree(path, folder / "run")
    (folder / "run" / "result.json").unlink()
    told: list[object] = []
    again = run_one(SETTINGS, folder / "run", told.append, COUNTED)
    assert told == [] and without_times(again) == without_times(result)
    speed = result["figures"]["tokens_per_s"]
    assert again["figures"]["tokens_per_s"] == pytest.approx(speed)
    # Beside others on its device it does not know how fast it is.
    shared = run_one(SETTINGS, folder / "run", quiet, COUNTED, has_device=False)
    assert without_times(shared) == without_times(result)
    assert not {"seconds", "tokens_per_s"} & set(shared["figures"])
    assert {point["seconds"] for point in shared["curve"]} == {None}


def test_a_loss_that_is_no_number_ends_a_run(folder: Path) -> None:
    own = settings()
    own["model"]["lr"] = 1e30
    with pytest.raises(DivergedError, match="not finite"):
        run_one(own, folder / "run", quiet)
    assert read_result(folder / "run") is None


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 177, 100_000])
def test_points_grow_by_a_factor_and_end_with_the_run(steps: int) -> None:
    points = validation_points(steps, 8)
    assert points[-1] == steps and points == sorted(set(points)) and points[0] >= 1
    assert len(points) <= 8
    if steps > 1000:
        ratios = [math.log(b / a) for a, b in itertools.pairwise(points)]
        assert max(ratios) == pytest.approx(min(ratios), rel=0.01)
