"""Two stages through the real command: what each learns, how a run goes on, what is kept."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.data import GameStream, StreamSettings
from tessera.training import TesseraModule
from tessera.training.effective_rank import effective_rank
from tessera.training.objectives import context_cache
from tessera.training.objectives.context_stage import context_mixer
from tessera.training.objectives.fixed_point import FixedPoint
from tessera.training.objectives.positions import shuffled
from tessera.training.objectives.token_stage import _key, made_contexts
from tests.runs import fit, tessera
from tests.training.test_resume import STOPPER, stop_at

OPTIONS = (
    *("--data.context", "null", "--data.player", "uniform", "--model.mixer", "context_token"),
    *("--model.objective", "fixed_point", "--model.fixed_point.context_steps", 9),
    *("--model.fixed_point.sweeps", 4, "--model.fixed_point.cached_games", 12),
    *("--model.fixed_point.token_batch", 16, "--model.context_token.inputs", 2),
)
WHOLE_GAMES = ("--data.context", "null")  # which small.yaml has not
SIZES = {"vocab_size": 12, "d_model": 8, "mixer": "context_token"}
GAMES = StreamSettings(
    board_size=3, player="uniform", batch_size=4, context=None, games_per_chunk=8
)


@pytest.fixture(autouse=True)
def stopper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)


def last(name: str = "small") -> Path:
    return Path(f"checkpoints/{name}/version_0/last.ckpt")


def state(name: str = "small") -> dict[str, Any]:
    return torch.load(last(name), weights_only=True)


def curves(name: str = "small") -> dict[str, dict[int, float]]:
    """The values of every curve by step; of a step that was made twice the later one."""
    events = EventAccumulator(f"lightning_logs/{name}/version_0").Reload()
    tags = events.Tags()["scalars"]
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


def assert_same_run(name: str, other: str) -> None:
    """The same weights, moments and losses, bit for bit."""
    one, two = state(name), state(other)
    for key, weight in one["state_dict"].items():
        assert torch.equal(two["state_dict"][key], weight), key
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, two)]
    assert moments[0].keys() == moments[1].keys()
    for index, own in moments[0].items():
        assert all(torch.equal(moments[1][index][key], value) for key, value in own.items())
    learned = ("train/", "val/")
    for tag, values in curves(name).items():
        if tag.startswith(learned) and "tokens_per_s" not in tag:
            assert curves(other)[tag] == values, tag


def interrupted_in_the_cache(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Send the process a signal once so many pieces of the contexts are made."""
    make = context_cache.ContextCache._write_manifest

    def write(self: context_cache.ContextCache, folder: Path) -> None:
        make(self, folder)
        if self.pieces_done == piece:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(context_cache.ContextCache, "_write_manifest", write)


def test_a_run_goes_on_exactly_from_within_either_stage_and_between_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*OPTIONS, "--run_name", "whole") == 0
    assert not (last("whole").parent / "contexts").exists()
    told = capsys.readouterr().err
    assert "stage 2 of 2, tokens  loss" in told
    # In the midst of the second set of games, and of the tokens; and, of four, behind one piece.
    assert fit(*OPTIONS, "--run_name", "contexts", *stop_at(6, signal.SIGTERM)) == 143
    stopped = state("contexts")["objective"]
    assert (stopped["taken"], stopped["token_start"]) == (7, -1) and stopped["previous"].any()
    assert fit(*WHOLE_GAMES, "--run_name", "contexts", "--ckpt_path", "last") == 0
    assert_same_run("whole", "contexts")
    assert fit(*OPTIONS, "--run_name", "tokens", *stop_at(14, signal.SIGTERM)) == 143
    stopped = state("tokens")["objective"]
    assert (stopped["taken"], stopped["token_start"]) == (15, 9) and "previous" not in stopped
    assert (last("tokens").parent / "contexts/contexts.f32").stat().st_size > 0
    assert fit(*WHOLE_GAMES, "--run_name", "tokens", "--ckpt_path", "last") == 0
    assert_same_run("whole", "tokens")
    with monkeypatch.context() as patch:
        interrupted_in_the_cache(patch, 2)
        capsys.readouterr()
        assert fit(*OPTIONS, "--run_name", "between") == 143
        assert "stopped by SIGTERM at step 9; resume: tessera fit" in capsys.readouterr().err
    assert state("between")["global_step"] == 9
    made: list[int] = []
    piece = context_cache.ContextCache._write_manifest
    monkeypatch.setattr(
        context_cache.ContextCache,
        "_write_manifest",
        lambda self, folder: (made.append(self.pieces_done), piece(self, folder)),
    )
    assert fit(*WHOLE_GAMES, "--run_name", "between", "--ckpt_path", "last") == 0
    assert made == [3]  # of three
    assert_same_run("whole", "between")


def test_a_branch_that_is_stopped_while_it_makes_contexts_keeps_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*OPTIONS, *stop_at(14, signal.SIGTERM)) == 143
    branch = (*WHOLE_GAMES, "--run_name", "branch")
    with monkeypatch.context() as patch:
        interrupted_in_the_cache(patch, 2)
        capsys.readouterr()
        assert fit(*branch, "--ckpt_path", last()) == 143
    assert capsys.readouterr().err.endswith(f" --ckpt_path {last('branch')}\n")
    assert (last("branch").parent / "contexts/contexts.f32").is_file()
    assert fit(*branch, "--ckpt_path", last("branch")) == 0
    assert fit(*WHOLE_GAMES, "--ckpt_path", "last") == 0
    for name, weight in state()["state_dict"].items():
        assert torch.equal(state("branch")["state_dict"][name], weight), name


def test_what_is_not_said_follows_from_the_run(folder: Path) -> None:
    names = ("context_steps", "token_batch")
    unsaid = [part for name in names for part in (f"--model.fixed_point.{name}", "null")]
    assert fit(*OPTIONS, *unsaid, "--model.fixed_point.keeps_contexts", "true") == 0
    assert state()["objective"]["token_start"] == 5  # of 20
    told = json.loads((last().parent / "contexts/contexts.json").read_text())
    # Of three batches of games: a step has as many positions in either stage.
    assert state()["objective"]["taken"] == 20 and told["pieces"] == 3
    positions = told["shape"][0] / 3
    own = module(fixed_point={"cached_games": 12, "context_steps": 0})
    stream = own.objective.stream(GameStream(GAMES))
    own.objective.begin(own)
    assert 20 < positions < 60
    assert abs(len(stream.taken(next(iter(stream))).inputs) - positions) < 20


def test_each_stage_learns_its_own_part_and_says_so(folder: Path) -> None:
    tied = ("--model.head", "tied")  # through which alone the embedding could learn
    assert fit(*OPTIONS, *tied, "--trainer.max_steps", 1, "--run_name", "first") == 0
    assert fit(*OPTIONS, *tied, "--trainer.max_steps", 9, "--run_name", "contexts") == 0
    assert fit(*OPTIONS, *tied) == 0
    first, contexts, tokens = (state(name)["state_dict"] for name in ("first", "contexts", "small"))
    for name, weight in first.items():
        if name == "model.embedding.weight":
            learned = (False, False)
        else:
            learned = (True, False) if ".context." in name else (False, True)
        changed = (
            not torch.equal(weight, contexts[name]),
            not torch.equal(contexts[name], tokens[name]),
        )
        assert changed == learned, name
    found = curves()
    assert list(found["train/stage"].values()) == [1.0] * 9 + [2.0] * 11
    assert found["train/cvfp"].keys() == set(range(1, 10))
    assert found["train/excess_nats"].keys() == set(range(10, 21))
    assert list(found["val/excess_nats"]) == [10, 20]
    assert found["train/lr"][9] == pytest.approx(2e-3)
    assert found["train/lr"][12] == pytest.approx(1e-3)  # the schedule's, whose warm-up is 3 steps


def test_stage_1_ends_when_the_rank_of_held_out_contexts_does_not_rise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = iter([3.0, 4.0, 4.0, 2.0])
    monkeypatch.setattr(
        "tessera.training.objectives.fixed_point.effective_rank",
        lambda contexts, centred: torch.tensor(1.0 if centred else next(ranks)),
    )
    more = ("--trainer.val_check_interval", 2, "--model.fixed_point.patience", 2)
    assert fit(*OPTIONS, *more, "--model.fixed_point.context_steps", 100) == 0
    assert state()["objective"]["token_start"] == 8
    assert list(curves()["val/context_rank_ratio"].values()) == [3 / 8, 4 / 8, 4 / 8, 2 / 8]


def test_a_run_that_is_stopped_at_a_validation_knows_what_it_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other way round, so that it falls.
    monkeypatch.setattr(
        "tessera.training.objectives.fixed_point.effective_rank",
        lambda contexts, centred: 10 - effective_rank(contexts, centred),
    )
    more = ("--trainer.val_check_interval", 2, "--model.fixed_point.patience", 3)
    more += ("--model.fixed_point.context_steps", 100, "--checkpoint_every_n_steps", 4)
    assert fit(*OPTIONS, *more, "--run_name", "whole") == 0
    assert state("whole")["objective"]["token_start"] == 8
    assert fit(*OPTIONS, *more, *stop_at(3, signal.SIGTERM)) == 143
    stopped = state()["objective"]
    assert state()["global_step"] == 4 and stopped["best_rank"] > 0
    assert fit(*WHOLE_GAMES, *more, "--ckpt_path", "last") == 0
    assert state()["objective"] == state("whole")["objective"]
    assert_same_run("whole", "small")


def module(**changes: Any) -> TesseraModule:
    torch.manual_seed(0)
    own = TesseraModule(**{**SIZES, "objective": "fixed_point", **changes})
    own.trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    return own


@pytest.mark.parametrize("features", ["none", "board"])
@pytest.mark.parametrize("plan", ["A", "D", "E"])
def test_the_loss_of_kept_contexts_is_that_of_the_whole_model(plan: str, features: str) -> None:
    own = module(
        context_token={"plan": plan, "context_layers": 2, "token_layers": 2, "inputs": 2},
        features=features,
        head="points" if features == "board" else "linear",
        board={"channels": 4, "depth": 1, "adds": False},
        outcome="win_and_score",
        fixed_point={"cached_games": 8, "token_batch": 7, "context_steps": 0},
    )
    torch.nn.init.normal_(own.model.outcome.down.weight)
    objective = own.objective
    assert isinstance(objective, FixedPoint)
    games = GameStream(GAMES, needs=own.needs)
    stream = objective.stream(games)
    objective.begin(own)
    steps = iter(stream)
    expected = []
    for number in range(2):
        batch = games.batch(number)
        tables = batch.features(features)
        losses = own.model(batch.inputs, batch.targets, tables, batch.scores())
        expected.append(losses[:, batch.targets != own.pad_token])
    whole = torch.cat(expected, 1)
    epoch, count = [], whole.shape[1] // 7
    for _ in range(count):
        batch = stream.taken(next(steps))
        assert batch.inputs.shape == (7, 1)
        objective.loss(own.model, batch)
        epoch.append(objective._newest[1])
    # Positions in another order: as many of each, but for less than a batch.
    rows = torch.cat(first_batches(whole.shape[1], 7, count))
    torch.testing.assert_close(torch.stack(epoch).mean(0), whole[:, rows].mean(1))


def first_batches(num_rows: int, size: int, count: int) -> list[torch.Tensor]:
    return list(islice(shuffled(num_rows, size, 0, 0), count))


def test_a_sweep_of_enough_rounds_makes_the_contexts_of_stage_2() -> None:
    own = module(context_token={"context_layers": 2}, fixed_point={"noise": 0.0})
    model, block = own.model, own.model.blocks.mixer(0).context
    batch = GameStream(GAMES).batch(0)
    is_pad = batch.inputs == own.pad_token
    of_inputs = block.of_inputs(own.model.blocks.mixer(0).windows(model.embedding(batch.inputs)))
    swept = (torch.randn(*batch.inputs.shape, 8),)
    for _ in range(batch.inputs.shape[1]):
        swept = block.sweep(swept[-1], of_inputs, is_pad)
    torch.testing.assert_close(swept[-1][~is_pad], made_contexts(model, batch.inputs)[-1][~is_pad])


def test_the_losses_fall_in_both_stages(folder: Path) -> None:
    more = ("--data.board_size", 5, "--data.max_moves", 40, "--data.batch_size", 16)
    more += ("--model.fixed_point.sweeps", 40, "--model.fixed_point.context_steps", 40)
    more += ("--trainer.max_steps", 160, "--model.d_model", 24, "--model.lr", 0.003)
    more += ("--model.fixed_point.token_batch", 256, "--model.fixed_point.cached_games", 32)
    assert fit(*OPTIONS, *more, "--model.fixed_point.noise", 0.0, "--model.decay_steps", 160) == 0
    found = curves()
    cvfp = list(found["train/cvfp"].values())
    assert cvfp[-1] < 0.2 * cvfp[2]
    excess = list(found["train/excess_nats"].values())
    assert sum(excess[-5:]) / 5 < excess[0] - 0.2


def test_its_checkpoint_is_measured_as_the_model_that_it_is(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*OPTIONS, "--trainer.max_steps", 5) == 0
    capsys.readouterr()
    assert tessera("validate", "--ckpt_path", last()) == 0
    assert re.search(r"excess_nats\s+[\d.]+", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--model.mixer", "mamba"],
            "model.mixer must be context_token, with n_layers 1 and feed_forward none, for "
            "objective fixed_point, got mamba.",
        ),
        (
            ["--model.features", "board"],
            "model.features must be none, or board with board.adds false, for objective "
            "fixed_point, got board.",
        ),
        (
            ["--trainer.accumulate_grad_batches", 2],
            "trainer.accumulate_grad_batches must be 1 for objective fixed_point, got 2.",
        ),
        (
            ["--data.selfplay_share", 0.5],
            "data.selfplay_share must be 0 for objective fixed_point, got 0.5.",
        ),
        (
            ["--trainer.devices", 2, "--trainer.accelerator", "cpu"],
            "trainer.devices must be 1 for objective fixed_point, got 2.",
        ),
        (
            ["--model.fixed_point.diversity", "foo"],
            "model.fixed_point.diversity must be one of mcdl, odcm, sdl, nuc, oacd, got foo.",
        ),
    ],
)
def test_what_it_cannot_train_is_refused(
    folder: Path, options: list[object], told: str, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*OPTIONS, *options) == 2
    assert capsys.readouterr().err == f"tessera: {told}\n"
    assert not Path("checkpoints").exists()


def test_contexts_of_other_weights_or_games_have_another_key() -> None:
    own = module()
    games = GameStream(GAMES)
    key = _key(own, games)
    assert _key(own, games) == key
    assert _key(own, GameStream(replace(GAMES, seed=1))) != key
    block = context_mixer(own.model).context
    with torch.no_grad():
        block.layers[0].first.weight[0, 0] += 1e-3
    changed = _key(own, games)
    assert changed != key
    with torch.no_grad():
        context_mixer(own.model).token.layers[0].first.weight[0, 0] += 1  # reads them only
    assert _key(own, games) == changed


def test_a_trial_of_batch_sizes_leaves_nothing_behind() -> None:
    own = module(fixed_point={"sweeps": 3})
    objective = own.objective
    assert isinstance(objective, FixedPoint)
    before = objective.saved()
    for size in (2, 4):
        games = GameStream(replace(GAMES, batch_size=size))
        batch = objective.trial(own.model, games)
        assert len(batch.inputs) == size
        objective.loss(own.model, batch).backward()
    objective.forget()
    assert objective.saved() == before and objective.figures("logger").keys() == {"stage"}


@pytest.mark.gpu
def test_on_a_gpu_it_is_one_run_wherever_the_contexts_are_and_it_stops(folder: Path) -> None:
    more = ("--trainer.precision", "bf16-mixed")
    for cache in ("memory", "disk"):
        own = ("--model.fixed_point.cache", cache, "--model.fixed_point.keeps_contexts", "true")
        assert fit(*OPTIONS, *more, *own, "--run_name", cache) == 0
        assert (last(cache).parent / "contexts").exists() == (cache == "disk")
    assert_same_run("memory", "disk")
    for stop in (6, 14):
        name = f"stopped_{stop}"
        assert fit(*OPTIONS, *more, "--run_name", name, *stop_at(stop, signal.SIGTERM)) == 143
        assert fit(*WHOLE_GAMES, *more, "--run_name", name, "--ckpt_path", "last") == 0
        assert_same_run("memory", name)
