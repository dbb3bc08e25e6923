"""Points that are excluded have no probability, in logits, losses and gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings
from tessera.model.beside import Beside
from tessera.model.block import Seen

SIZE = 4
VOCABULARY = SIZE**2 + 3
MODELS: dict[str, dict[str, Any]] = {
    "moves": {},
    "board": {"features": "board", "head": "points"},
    "outcome": {"features": "landmarks", "outcome": "win_and_score"},
}


def new_model(name: str) -> GameModel:
    torch.manual_seed(0)
    return GameModel(ModelSettings(VOCABULARY, 8, **MODELS[name])).train()


def batch(model: GameModel) -> tuple[Tensor, Tensor, Beside]:
    """Tokens, targets that are not excluded, and what is beside them."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(SIZE**2, (3, 7), generator=generator)
    excluded = torch.randint(2**SIZE, (3, 6, SIZE), generator=generator, dtype=torch.int32)
    excluded[0, 0] = 0
    points = unpacked(excluded)
    targets = torch.where(points.gather(2, tokens[:, 1:, None])[..., 0], SIZE**2, tokens[:, 1:])
    targets[2, 4:] = VOCABULARY - 2  # PAD
    features: tuple[Tensor, ...] = ()
    if model.features is not None:
        shape = (3, 6, model.features.num_sets, SIZE)
        features = model.features.begun(torch.zeros(shape, dtype=torch.int32))
    scores = None if model.outcome is None else torch.arange(18.0).view(3, 6) - 9
    return tokens[:, :-1], targets, Beside(features, scores, excluded)


def unpacked(excluded: Tensor) -> Tensor:
    """(B, L, n²) bool."""
    bits = [excluded >> column & 1 for column in range(SIZE)]
    return torch.stack(bits, -1).flatten(2).bool()


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_minus_infinity_at_excluded_points_and_nowhere_else(name: str) -> None:
    model = new_model(name)
    tokens, _, (features, _, excluded, _) = batch(model)
    plain, without = model(tokens, None, features), model(tokens, None, features, None, excluded)
    points = torch.nn.functional.pad(unpacked(excluded), (0, 3))
    assert points.any() and torch.equal(without.isneginf(), points)
    assert torch.equal(without[~points], plain[~points])
    if model.outcome is not None:
        outlook = model.outlook(tokens, features, excluded)
        assert torch.equal(outlook[0], without)
        assert torch.equal(outlook[1].win, model.outlook(tokens, features)[1].win)


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_the_probability_that_is_left(name: str) -> None:
    model = new_model(name)
    tokens, targets, beside = batch(model)
    losses = model(tokens, targets, *beside)
    if model.outcome is not None:
        others = model(tokens, targets, beside.features, beside.scores)
        assert torch.equal(losses[1:], others[1:]) and not torch.equal(losses[0], others[0])
        losses = losses[0]
    # From the definition: the probabilities of the rest, over their sum.
    chances = model(tokens, None, beside.features).softmax(-1)
    left = chances * ~torch.nn.functional.pad(unpacked(beside.excluded), (0, 3))
    expected = -(left / left.sum(-1, keepdim=True)).gather(-1, targets[..., None])[..., 0].log()
    expected = expected.masked_fill(targets == VOCABULARY - 2, 0)
    torch.testing.assert_close(losses, expected.to(losses.dtype))
    assert not torch.allclose(losses, model(tokens, targets, beside.features), atol=1e-3)
    names, weights = zip(*model.named_parameters(), strict=True)
    found, wanted = (
        torch.autograd.grad(each.sum(), weights, allow_unused=True) for each in (losses, expected)
    )
    for which, ours, theirs in zip(names, found, wanted, strict=True):
        if not which.startswith("outcome."):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_where_nothing_is_excluded_the_losses_are_what_they_are(name: str) -> None:
    model = new_model(name)
    tokens, targets, (features, scores, excluded, _) = batch(model)
    nothing = model(tokens, targets, features, scores, torch.zeros_like(excluded))
    torch.testing.assert_close(nothing, model(tokens, targets, features, scores))


def test_a_run_is_told_by_name_what_stands_beside_tokens_and_targets() -> None:
    tables = (torch.zeros(1), torch.ones(1))
    # Of the same shape and dtype, so that nothing but the names tells them apart.
    for features, scores, excluded in itertools.product(
        ((), tables[:1], tables), (None, torch.full((1,), 2.0)), (None, torch.full((1,), 3.0))
    ):
        given = Beside(features, scores, excluded)
        again = Beside.of(given.names, given.tensors)
        assert len(again.features) == len(features)
        pairs = zip([*again.features, *again[1:]], [*features, *given[1:]], strict=True)
        assert all(one is other for one, other in pairs)


def test_graphs_of_training_are_asked_for_by_these_names() -> None:
    model = new_model("outcome")
    tokens, targets, beside = batch(model)
    plain, asked = model(tokens, targets, *beside), []

    def run(names: tuple[str, ...], *tensors: Tensor) -> tuple[Tensor, Seen]:
        asked.append(names)
        return model._score(names, *tensors)

    model._graphs = run
    assert torch.equal(model(tokens, targets, *beside), plain)
    model(tokens, targets, beside.features, None, beside.excluded)
    model(tokens, targets, beside.features, beside.scores)
    tables = ("features", "features")
    assert asked == [(*tables, "scores", "excluded"), (*tables, "excluded"), (*tables, "scores")]


def test_what_are_no_excluded_points_is_refused() -> None:
    model = new_model("moves")
    tokens, targets, (_, _, excluded, _) = batch(model)
    wrong = (excluded.long(), excluded[:, :-1], excluded[..., :-1], excluded > 0, "none")
    for each in wrong:
        with pytest.raises(ValueError, match=r"excluded must be \(3, 6, 4\) int32, got"):
            model(tokens, targets, excluded=each)
    with pytest.raises(ValueError, match="excluded must be on cpu, got meta"):
        model(tokens, excluded=excluded.to("meta"))
