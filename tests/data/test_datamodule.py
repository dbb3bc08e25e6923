"""The data module hands out three streams and knows how far training has come."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer

from tessera.data import GameDataModule
from tessera.data.chunk_size import games_that_fit
from tessera.go import RULES, Rules
from tessera.training import TesseraModule

SMALL = {"board_size": 3, "batch_size": 4, "games_per_chunk": 8, "context": 8}


def data(**changes) -> GameDataModule:
    return GameDataModule(**{**SMALL, "windows_per_game": 1, "val_batches": 3, **changes})


def test_settings_replace_those_of_the_preset() -> None:
    assert data().settings.rules == RULES["full"]
    own = {"komi": 0.5, "ko": "situational", "suicide": False, "max_moves": 40}
    module = data(rules="tromp-taylor", **own, score="pass_alive")
    assert module.settings.rules == Rules("situational", False, "chains", 0.5, 40, "pass_alive")


def test_all_that_is_wrong_is_said_at_once_by_the_names_of_the_arguments() -> None:
    with pytest.raises(ValueError) as error:
        data(board_size=1, ko="super", val_batches=0)
    assert str(error.value).splitlines() == [
        "ko must be one of simple, positional, situational, got super.",
        "val_batches must be at least 1, got 0.",
        "board_size must be 2 to 19, got 1.",
    ]


@pytest.mark.parametrize("windows", [1, 3])
def test_validation_is_the_same_finite_set_each_time_and_carries_legality(windows: int) -> None:
    module = run_with(data(windows_per_game=windows))
    # Its metrics are who needs the legal points.
    module.trainer.strategy.connect(TesseraModule(12, d_model=4))
    loader = module.val_dataloader()
    first, second = list(loader), list(loader)
    assert [batch.index for batch in first] == [0, 1, 2]
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(first, second, strict=True))
    assert all(batch.legal is not None for batch in first)
    assert not torch.equal(first[0].targets, next(iter(module.test_dataloader())).targets)


def test_training_begins_behind_what_was_trained_on() -> None:
    module = data()
    module.load_state_dict({"batches_trained": 5, "batches_per_chunk": 2, "games_per_chunk": 8})
    batch = next(iter(module.train_dataloader()))
    assert batch.index == 5 and batch.legal is None
    assert module.state_dict()["batches_trained"] == 5


@pytest.mark.parametrize(
    ("state", "first_unseen_batch"),
    [
        # Two chunks of 8 games were begun; a chunk is 8 games of 2 batches here.
        ({"batches_trained": 3, "batches_per_chunk": 2, "games_per_chunk": 8}, 3),
        ({"batches_trained": 5, "batches_per_chunk": 4, "games_per_chunk": 8}, 4),
        # Four processes had seen 32 games, one goes on.
        ({"batches_trained": 2, "batches_per_chunk": 2, "games_per_chunk": 32}, 8),
    ],
    ids=["as before", "another batch size", "fewer processes"],
)
def test_a_stream_that_is_cut_differently_goes_on_with_unseen_games(
    state: dict, first_unseen_batch: int
) -> None:
    module = data()
    module.load_state_dict(state)
    assert next(iter(module.train_dataloader())).index == first_unseen_batch


def run_with(module: GameDataModule) -> GameDataModule:
    """The module as a trainer on the CPU sets it up."""
    module.trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    module.setup("fit")
    return module


def test_games_at_once_may_be_left_to_the_memory_and_are_kept_when_resuming() -> None:
    module = run_with(data(games_per_chunk=None, batch_size=48, windows_per_game=3))
    assert module.settings.games_per_chunk == 1024  # a CPU's number, and whole batches already
    module = run_with(data(games_per_chunk=None, batch_size=50))
    assert module.settings.games_per_chunk == 1050
    saved = {**module.state_dict(), "batches_trained": 7}
    saved |= {"batches_per_chunk": 2, "games_per_chunk": 100, "games_that_fit": 100}
    resumed = run_with(data(games_per_chunk=None, batch_size=50))
    resumed.load_state_dict(saved)
    assert resumed.settings.games_per_chunk == 100
    assert resumed.batches_trained == 7


def test_less_free_memory_means_fewer_games_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for free in (2**20, 2**30, 8 * 2**30, 100 * 2**30):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2**40))
        settings = GameDataModule(games_per_chunk=None, batch_size=512).settings
        found.append(games_that_fit(settings, torch.device("cuda")))
    assert found == sorted(found) and len(set(found)) > 2
    # The windows of so many games make whole batches, and they fit.
    assert all(games % 512 == 0 for games in found)
    assert found[1] * 40 * 722 < 2**30 / 8


def test_a_batch_is_handed_over_as_it_is() -> None:
    module = data()
    batch = next(iter(module.train_dataloader()))
    # Lightning's own way moves each tensor to where it is, and makes a new tuple of them.
    assert module.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
