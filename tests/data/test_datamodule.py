"""The data module hands out three streams and knows how far training has come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tessera.data import GameDataModule, GameStream, NoRoomForGamesError
from tessera.data.chunk import Chunk
from tessera.data.chunk_size import chunk_problem, games_that_fit
from tessera.go import RULES, GPUGoEngine, Rules, play_games, replayed
from tessera.go.bitboard import unpack
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


@pytest.mark.parametrize("context", [8, None])
def test_training_holds_the_tables_that_the_learner_needs(context: int | None) -> None:
    module = run_with(data(selfplay_share=0.5, context=context, val_batches=1))
    learner: Any = TesseraModule(12, d_model=4)
    module.trainer.strategy.connect(learner)
    learner.needs, learner.held_out_needs = ("board",), ("legal", "landmarks")
    batch = next(iter(module.train_dataloader()))
    (held_out,) = module.val_dataloader()
    for name in ("legal", "board", "landmarks"):
        assert (getattr(batch, name) is not None) == (name in learner.needs)
        assert (getattr(held_out, name) is not None) == (name in learner.held_out_needs)
    if context is None:
        # The player's rows and those of the model's games against itself, played again.
        moves = batch.targets.masked_fill(batch.targets == 11, 10)[:, :-1]
        assert batch.board.equal(replayed("board", moves, 3, "full", "cpu"))
        assert batch.board.any(2).any(2).sum(1).min() > 3
    assert (held_out.landmarks_before is None) == (context is None)


def test_all_games_leave_settled_points_alone_if_asked_to() -> None:
    size, end = 4, 4**2 + 2
    own = {"board_size": size, "selfplay_share": 0.5, "context": None, "windows_per_game": None}
    small = {"batch_size": 16, "games_per_chunk": 16, "val_batches": 1, "test_batches": 1}
    counts = {}
    for skip_settled in (True, False):
        module = run_with(data(**own, **small, skip_settled=skip_settled))
        module.trainer.strategy.connect(TesseraModule(vocab_size=size**2 + 3, d_model=4))
        batch = next(iter(module.train_dataloader()))
        for name, found in (
            ("played", batch.rows(slice(0, 8))),
            ("selfplayed", batch.rows(slice(8, None))),
            ("val", *module.val_dataloader()),
            ("test", *module.test_dataloader()),
        ):
            assert (found.settled is not None) == skip_settled
            assert (found.legal is not None) == (name in ("val", "test"))
            engine, count = GPUGoEngine(len(found.inputs), "cpu", size), 0
            for position, moves in enumerate(found.targets.t()):
                settled = engine.settled_points().both
                over = engine.is_game_over() & (moves != end)
                if skip_settled:
                    assert torch.equal(found.settled[~over, position], settled.t()[~over])
                    assert not found.settled[over, position].any()
                points = unpack(settled).flatten(1)
                at = moves.clamp(max=size**2 - 1).unsqueeze(1)
                count += int((points.gather(1, at).squeeze(1) & (moves < size**2)).sum())
                engine.play_batch(moves)
            counts[name, skip_settled] = count
    assert all((count == 0) == skips for (_, skips), count in counts.items()), counts


def test_more_tables_mean_fewer_games_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**33, 2**40))
    settings = GameDataModule(games_per_chunk=None, batch_size=8).settings
    needs = (), ("landmarks",), ("board",), ("board", "landmarks")
    found = [games_that_fit(settings, gpu, needs=some) for some in needs]
    assert found == sorted(found, reverse=True) and len(set(found)) > 2
    module = data(board_size=19, games_per_chunk=None, batch_size=8)
    learner: Any = TesseraModule(364, d_model=4)
    learner.needs = ("board", "landmarks")
    run_with(module)
    module.trainer.strategy.connect(learner)
    monkeypatch.setattr(type(module.trainer.strategy), "root_device", gpu)
    module.setup("fit")
    assert module.settings.games_per_chunk == games_that_fit(module.settings, gpu, learner.needs)
    assert module.settings.games_per_chunk < games_that_fit(module.settings, gpu)


@pytest.mark.parametrize(
    "needs", [("board",), ("landmarks",), ("legal", "board", "landmarks"), ("settled",)]
)
@pytest.mark.parametrize("context", [16, None])
def test_the_bytes_of_a_game_count_what_is_needed(
    needs: tuple[str, ...], context: int | None
) -> None:
    settings = data(board_size=9, context=context, windows_per_game=None).settings
    games, limit = settings.games_per_chunk, 2 * 9**2
    record = play_games("rules", range(games), seed=0, board_size=9, needs=needs, trim=False)
    cut = Chunk(record, settings.context, settings.num_windows)
    whole = Chunk(record, None, 1)._sequences
    held = [getattr(part, name) for name in needs for part in (record, whole)]
    if context is not None:
        held += [getattr(cut._sequences, name) for name in needs]
        held += [cut._sequences.landmarks_before] * ("landmarks" in needs)
    more = settings.bytes_per_game(needs) - settings.bytes_per_game()
    assert sum(tensor.nbytes for tensor in held) == pytest.approx(games * more, rel=2 / limit)
    few = torch.device("cpu")
    with pytest.MonkeyPatch.context() as patch:
        memory = games * (settings.bytes_per_game() + more // 2)
        patch.setattr("tessera.accelerator.device_memory", lambda device: memory)
        assert not chunk_problem(settings, few) and chunk_problem(settings, few, needs)
        with pytest.raises(NoRoomForGamesError):
            GameStream(settings, needs=needs).batch(0)


def test_a_batch_is_handed_over_as_it_is() -> None:
    module = data()
    batch = next(iter(module.train_dataloader()))
    # Lightning's own way moves each tensor to where it is, and makes a new tuple of them.
    assert module.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
