"""``--model.mixer mamba2`` through the real commands: training, resuming, measuring."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch

from tessera.data import GameDataModule
from tessera.training.resume import conflicts, settings_of
from tests.runs import fit, tessera

MAMBA2 = ("--model.mixer", "mamba2", "--model.n_layers", 2)


def last(name: str = "small") -> Path:
    return Path(f"checkpoints/{name}/version_0/last.ckpt")


def state(name: str = "small") -> dict:
    return torch.load(last(name), weights_only=True)


def weights(checkpoint: dict) -> dict[str, torch.Tensor]:
    return checkpoint["state_dict"]


def test_a_resumed_run_is_the_one_that_was_not_interrupted_whatever_it_keeps(folder: Path) -> None:
    assert fit(*MAMBA2, "--run_name", "whole") == 0
    # The first half computes its activations again, the second keeps them.
    kept = "--model.checkpoint_activations"
    assert fit(*MAMBA2, kept, "true", "--trainer.max_steps", 9) == 0
    assert state()["hyper_parameters"]["mixer"] == "mamba2"
    # What is not said is as in the checkpoint, the mixer included.
    assert fit(kept, "false", "--ckpt_path", "last") == 0
    whole, resumed = weights(state("whole")), weights(state())
    assert {"model.blocks.mixers.1.dt_bias", "model.blocks.mixers.0.norm.weight"} <= set(whole)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert state()["global_step"] == 20


def test_its_games_against_itself_are_trained_on(folder: Path) -> None:
    share = ["--data.selfplay_share", 0.5, "--trainer.max_steps", 9]
    assert fit(*MAMBA2, *share) == 0
    assert state()["GameDataModule"]["selfplay_weights"]
    assert all(tensor.isfinite().all() for tensor in weights(state()).values())


@pytest.mark.parametrize(("had", "wanted"), [("mamba", "mamba2"), ("mamba2", "mamba")])
def test_another_mixer_cannot_go_on_from_a_checkpoint(
    folder: Path, had: str, wanted: str, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--model.mixer", had, "--trainer.max_steps", 2) == 0
    before = last().read_bytes()
    capsys.readouterr()
    assert fit("--model.mixer", wanted, "--ckpt_path", "last") == 2
    told = capsys.readouterr().err
    assert told == (f"tessera: model.mixer must be {had} to go on from {last()}, got {wanted}.\n")
    assert last().read_bytes() == before


AS_LONG = (["mamba", "attention", "mamba"], ["mamba", "attention"])


@pytest.mark.parametrize(
    ("had", "wanted", "is_same"),
    [
        ("attention", ["attention"], True),
        (["attention"], "attention", True),
        (["attention"] * 3, ["attention"] * 2, True),
        (*AS_LONG, True),
        (*reversed(AS_LONG), True),
        (["mamba", "attention"], ["mamba", "attention", "attention"], False),
        (["mamba", "attention"], "mamba", False),
        ("mamba", [], False),
    ],
    ids=str,
)
def test_mixers_are_the_same_if_those_of_the_layers_are(
    had: list[str] | str, wanted: list[str] | str, is_same: bool
) -> None:
    checkpoint = {"hyper_parameters": {"mixer": had, "n_layers": 3}}
    settings = {"model.mixer": wanted, "model.n_layers": 3, "model.objective": "next_move"}
    found = conflicts(Path("a.ckpt"), checkpoint, settings, is_fit=True)
    assert [problem.name for problem in found] == ([] if is_same else ["model.mixer"])
    # Of another number of layers that alone is told.
    settings |= {"model.mixer": had, "model.n_layers": 4}
    (problem,) = conflicts(Path("a.ckpt"), checkpoint, settings, is_fit=True)
    assert str(problem) == "model.n_layers must be 3 to go on from a.ckpt, got 4."


def test_a_run_goes_on_however_its_mixers_are_spelt(folder: Path) -> None:
    assert fit("--model.mixer", "attention", "--trainer.max_steps", 2) == 0
    for wanted, steps in (("[attention]", 4), ("attention", 6)):
        more = ("--ckpt_path", "last", "--trainer.max_steps", steps)
        assert fit("--model.mixer", wanted, *more) == 0
        assert state()["global_step"] == steps
        assert tessera("test", "--ckpt_path", last(), "--model.mixer", wanted) == 0


def test_a_checkpoint_that_names_no_mixer_or_how_games_were_played_has_what_there_was() -> None:
    checkpoint = {"hyper_parameters": {"d_model": 8}, "datamodule_hyper_parameters": {"seed": 1}}
    settings = {"model.mixer": "mamba", "model.d_model": 8, "data.score": None, "data.seed": 1}
    settings |= {"data.skip_settled": False, "model.objective": "next_move"}
    assert settings_of(checkpoint) == settings
    skipping = {**settings, "data.skip_settled": True}
    assert [*map(str, conflicts(Path("a.ckpt"), checkpoint, skipping, is_fit=True))] == [
        "data.skip_settled must be False to go on from a.ckpt, got True."
    ]
    assert not conflicts(Path("a.ckpt"), checkpoint, skipping, is_fit=False)
    scored = {**settings, "data.score": "pass_alive"}
    assert [*map(str, conflicts(Path("a.ckpt"), checkpoint, scored, is_fit=True))] == [
        "data.score must be null to go on from a.ckpt, got pass_alive."
    ]
    assert not conflicts(Path("a.ckpt"), checkpoint, scored, is_fit=False)
    wanted = {**settings, "model.mixer": "mamba2"}
    assert [*map(str, conflicts(Path("a.ckpt"), checkpoint, wanted, is_fit=True))] == [
        "model.mixer must be mamba to go on from a.ckpt, got mamba2."
    ]


def test_a_checkpoint_of_mamba2_is_measured_and_predicts(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*MAMBA2, "--trainer.max_steps", 5) == 0
    assert tessera("test", "--config", "small.yaml", "--ckpt_path", "last") == 0
    assert "excess_nats" in capsys.readouterr().out
    Path("games.txt").write_text("B2 A1\n")
    asked = ["--config", "small.yaml", "--ckpt_path", "last", "--games", "games.txt"]
    assert tessera("predict", *asked) == 0
    plies = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(plies) == 3
    assert all(sum(ply["probabilities"].values()) == pytest.approx(1, abs=1e-4) for ply in plies)


FREE = {
    "batch_size": 8,
    "context": None,
    "games_per_chunk": 64,
    "windows_per_game": 2,
    "val_batches": 3,
    "test_batches": 3,
    "backend": "torch",
    "selfplay_share": 0.5,
    "selfplay_temperature": 2.0,
}


@pytest.mark.parametrize("name", inspect.signature(GameDataModule).parameters)
def test_a_run_goes_on_with_other_data_settings_only_if_no_game_depends_on_them(name: str) -> None:
    games = {
        key: value.default for key, value in inspect.signature(GameDataModule).parameters.items()
    }
    checkpoint = {"hyper_parameters": {"d_model": 8}, "datamodule_hyper_parameters": games}
    wanted = {**settings_of(checkpoint), f"data.{name}": FREE.get(name, "another")}
    found = conflicts(Path("a.ckpt"), checkpoint, wanted, is_fit=True)
    assert [problem.name for problem in found] == ([] if name in FREE else [f"data.{name}"])
