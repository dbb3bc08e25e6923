"""The module's learning rate, weight decay and windowed reading."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F

from tessera.data import GameStream, StreamSettings
from tessera.model import GameModel, MambaModel, ModelSettings
from tessera.training import TesseraModule
from tessera.training.module import decay_groups


def module(**changes) -> TesseraModule:
    return TesseraModule(**{"vocab_size": 12, "d_model": 8, "mamba": {"d_state": 4}, **changes})


def names_of_groups(model: MambaModel) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(parameter)] for parameter in group] for group in decay_groups(model)]


def saved_and_loaded(model: MambaModel) -> MambaModel:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def with_new_parameters(model: MambaModel) -> MambaModel:
    """The model after its parameters were replaced by those of a checkpoint."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    return model


@pytest.mark.parametrize("mixer", ["mamba", "mamba2"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        saved_and_loaded,
        with_new_parameters,
        lambda model: model.double().float().requires_grad_(False).requires_grad_(True),
    ],
    ids=["copy", "deepcopy", "pickle", "torch.save", "assign", "converted"],
)
def test_a_copy_of_a_model_decays_like_the_model(mixer: str, n_layers: int, copied: Any) -> None:
    # A state of two dimensions would decay like a matrix, if nobody said that it must not.
    expected = names_of_groups(MambaModel(12, d_model=8, n_layers=n_layers, mixer=mixer))
    model = copied(MambaModel(12, d_model=8, n_layers=n_layers, mixer=mixer))
    assert names_of_groups(model) == expected
    assert sum(name.endswith("A_log") for name in expected[1]) == n_layers


def test_only_matrices_decay() -> None:
    model = MambaModel(12, d_model=8, n_layers=2)
    decayed, plain = decay_groups(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in decayed} == {
        "conv1d",
        "dt_proj",
        "head",
        "in_proj",
        "out_proj",
        "x_proj",
    }
    plain_names = {names[id(p)] for p in plain}
    assert {"embedding.weight", "head.bias", "blocks.final_norm.weight"} <= plain_names
    assert {n.split(".")[-1] for n in plain_names} == {"weight", "bias", "A_log", "D"}
    assert len(decayed) + len(plain) == len(names)
    assert all(parameter.dim() > 1 for parameter in decayed)


def test_learning_rate_warms_up_and_follows_a_cosine_to_max_steps() -> None:
    trained = module(lr=2.0, warmup_steps=10, min_lr_ratio=0.25)
    trained.trainer = Trainer(max_steps=110, logger=False, enable_checkpointing=False)
    assert trained.lr_at(0) == pytest.approx(0.2)
    assert trained.lr_at(9) == trained.lr_at(10) == pytest.approx(2.0)
    assert trained.lr_at(60) == pytest.approx(2.0 * 0.625)
    assert trained.lr_at(110) == trained.lr_at(500) == pytest.approx(0.5)
    trained.decay_steps = 60
    assert trained.lr_at(60) == pytest.approx(0.5)


def test_learning_rate_stays_until_it_is_let_fall() -> None:
    plain = module(lr=2.0, warmup_steps=10, min_lr_ratio=0.25)
    trained = module(lr=2.0, warmup_steps=10, min_lr_ratio=0.25, stable_steps=80)
    for each in (plain, trained):
        each.trainer = Trainer(max_steps=100, logger=False, enable_checkpointing=False)
    steps = [trained.lr_at(step) for step in (0, 9, 10, 79, 80, 90, 100, 500)]
    assert steps == pytest.approx([0.2, 2.0, 2.0, 2.0, 2.0, 2.0 * 0.625, 0.5, 0.5])
    trained.decay_steps = 80  # no room to fall in: the run that cool-downs branch off
    assert trained.lr_at(79) == trained.lr_at(80) == trained.lr_at(10**9) == 2.0
    # Within the warm-up, or not set: what there was before, bit for bit.
    trained.decay_steps, trained.stable_steps = None, 10
    for step in range(0, 120, 7):
        assert trained.lr_at(step) == plain.lr_at(step)


def test_the_loss_is_the_mean_over_moves_and_leaves_pad_out() -> None:
    trained = module().train()
    trained.trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False)
    torch.nn.init.normal_(trained.model.head.weight)
    settings = StreamSettings(board_size=3, batch_size=8, context=None, games_per_chunk=8)
    batch = GameStream(settings).batch(0)
    assert (batch.targets == trained.pad_token).any()
    logits = trained(batch.inputs)
    is_move = batch.targets != trained.pad_token
    expected = F.cross_entropy(logits[is_move], batch.targets[is_move])
    torch.testing.assert_close(trained.training_step(batch, 0), expected)


def test_windowed_logits_read_each_position_through_its_own_window() -> None:
    torch.manual_seed(0)
    model = module(vocab_size=28).eval()
    tokens = torch.randint(0, 25, (1, 90))
    with torch.no_grad():
        torch.nn.init.normal_(model.model.head.weight)
        whole = model.windowed_logits(tokens, None)
        assert torch.equal(whole, model(tokens)[0])
        windowed = model.windowed_logits(tokens, 16)
        for position in (0, 7, 15, 16, 50, 89):
            expected = model.model.predict_next(tokens[:, : position + 1], context=16)[0]
            assert torch.allclose(windowed[position], expected, atol=1e-5)
    assert not torch.allclose(windowed[89], whole[89], atol=2e-5)


def test_a_prediction_is_a_distribution_without_padding() -> None:
    model = module().eval()
    with torch.no_grad():
        chances = model.predict_step((torch.tensor([[11, 0, 3, 4]]), 64), 0)
    assert chances.shape == (4, 12)
    assert torch.allclose(chances.sum(-1), torch.ones(4))
    assert chances[:, 10].count_nonzero() == 0


def test_all_that_is_wrong_is_said_at_once_by_the_names_of_the_arguments() -> None:
    with pytest.raises(ValueError) as error:
        module(
            d_model=0, n_layers=-1, lr=math.nan, warmup_steps=-1, min_lr_ratio=2.0, stable_steps=-1
        )
    assert str(error.value).splitlines() == [
        "d_model must be a whole number of at least 1, got 0.",
        "n_layers must be a whole number of at least 1, got -1.",
        "lr must be more than 0, got nan.",
        "warmup_steps must be at least 0, got -1.",
        "stable_steps must be at least 0, got -1.",
        "min_lr_ratio must be 0 to 1, got 2.0.",
    ]


def test_the_losses_of_an_outcome_are_weighted_and_measured_without_pad() -> None:
    changes = {"win_weight": 0.7, "score_weight": 0.2}
    trained = module(outcome="win_and_score", win_and_score=changes).train()
    assert trained.model.outcome is not None
    torch.nn.init.normal_(trained.model.outcome.down.weight, std=3)  # so that no chance is even
    trained.trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False)
    settings = StreamSettings(board_size=3, batch_size=8, context=None, games_per_chunk=8)
    batch = GameStream(settings, needs=["legal"]).batch(0)
    counted = batch.targets != trained.pad_token
    assert not counted.all()
    losses = trained.model(batch.inputs, batch.targets, scores=batch.scores())
    moves, win, score = (each[counted].mean() for each in losses)
    expected = moves + 0.7 * win + 0.2 * score
    torch.testing.assert_close(trained.training_step(batch, 0), expected)
    with torch.no_grad():
        trained.objective.measure(trained.model, batch)
        found = trained.model.outlook(batch.inputs)[1]
    wins = (batch.scores().sign() + 1) / 2
    assert trained.objective.outcome_metrics is not None
    measured = trained.objective.outcome_metrics.compute()
    brier = ((found.win - wins) ** 2)[counted].mean()
    torch.testing.assert_close(measured["win_brier"], brier)


def test_a_frozen_table_stays_as_it_was_drawn_and_is_in_no_group_of_the_optimizer() -> None:
    model = GameModel(
        ModelSettings(12, 8, table={"frozen": True}, head="tied", mixer="context_token")
    )
    before = model.embedding.weight.clone()
    groups = decay_groups(model)
    weights = {id(weight) for group in groups for weight in group}
    assert id(model.embedding.weight) not in weights
    assert len(weights) == len(list(model.parameters())) - 1
    optimizer = torch.optim.AdamW([*groups[0], *groups[1]], 0.1)
    tokens = torch.tensor([[11, 3, 4, 5]])
    model(tokens, tokens).sum().backward()
    optimizer.step()
    assert torch.equal(model.embedding.weight, before)
