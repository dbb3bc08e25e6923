"""What open ranks cost is learned from and logged under its own names, and is in no excess."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.data import GameStream, StreamSettings
from tessera.training import TesseraModule
from tests.runs import fit
from tests.training.test_resume import STOPPER, stop_at

OPTIONS = (
    *("--model.mixer", "adaptive_rank", "--model.lr", 0.01),
    *("--model.adaptive_rank.max_rank", 6, "--model.adaptive_rank.min_rank", 2),
    *("--model.adaptive_rank.warmup_steps", 16, "--model.adaptive_rank.gate", "gumbel"),
)


@pytest.mark.parametrize("outcome", ["none", "win_and_score"])
def test_the_loss_is_that_of_the_moves_and_the_penalty(outcome: str) -> None:
    ranks = {"max_rank": 6, "penalty": 2.0}
    settings = {"vocab_size": 12, "d_model": 8, "mixer": "adaptive_rank", "adaptive_rank": ranks}
    model = TesseraModule(outcome=outcome, **settings).train()
    model.trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False)
    games = StreamSettings(board_size=3, batch_size=8, context=None, games_per_chunk=8)
    batch = GameStream(games).batch(0)
    counted = batch.targets != model.pad_token
    assert not counted.all()
    gates = []
    hook = model.model.blocks.mixer(0).gate_out.register_forward_hook
    handle = hook(lambda *args: gates.append(args[-1].sigmoid()))
    total = model.training_step(batch, 0)
    handle.remove()
    rank = gates[0].sum(-1)[counted].mean()
    assert 2 < rank < 4  # half of six
    figures = model.figures("logger")
    torch.testing.assert_close(figures["effective_rank"], rank.detach())
    torch.testing.assert_close(figures["penalty"], 2 * rank.detach() / 6)
    moves = model.model(batch.inputs, batch.targets)[counted].mean()
    torch.testing.assert_close(figures["loss"], moves.detach())
    torch.testing.assert_close(
        figures["excess_nats"], (moves + batch.log_probs.sum() / counted.sum()).detach()
    )
    expected = moves + 2 * rank / 6
    if outcome != "none":
        expected = expected + 0.5 * figures["win_loss"] + 0.1 * figures["score_loss"]
    torch.testing.assert_close(total.detach(), expected.detach())


def test_a_penalty_closes_ranks() -> None:
    ranks = []
    for penalty in (0.0, 30.0):
        torch.manual_seed(0)
        own = {"max_rank": 6, "penalty": penalty}
        settings = {"vocab_size": 12, "d_model": 8, "mixer": "adaptive_rank", "adaptive_rank": own}
        model = TesseraModule(**settings).train()
        model.trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False)
        games = StreamSettings(board_size=3, batch_size=8, context=12, games_per_chunk=8)
        batch = GameStream(games).batch(0)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for step in range(20):
            optimizer.zero_grad()
            model.training_step(batch, step).backward()
            optimizer.step()
        ranks.append(float(model.figures("logger")["effective_rank"]))
    assert ranks[1] < 0.7 * ranks[0]


def test_a_run_logs_its_ranks_and_goes_on_with_as_many_as_it_had(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)
    assert fit(*OPTIONS, "--run_name", "whole") == 0
    assert fit(*OPTIONS, *stop_at(12, signal.SIGTERM)) == 143
    found = [
        torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "small")
    ]
    (rank,) = (value for name, value in found[1].items() if name.endswith(".rank"))
    assert int(rank) == 2 + 4 * 12 // 16  # of the thirteenth step
    assert fit(*OPTIONS, "--ckpt_path", "last") == 0
    resumed = torch.load("checkpoints/small/version_0/last.ckpt", weights_only=True)["state_dict"]
    for name, weight in found[0].items():
        assert torch.equal(resumed[name], weight), name
    events = EventAccumulator("lightning_logs/whole/version_0").Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/effective_rank", "train/penalty", "train/excess_nats"} <= tags
    values = [event.value for event in events.Scalars("train/effective_rank")]
    assert 0 < values[0] < 2 < values[-1] < 6
