"""The published feed-forward layers of low rank, and the norms around them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tessera.model import GameModel, ModelSettings
from tessera.model.feed_forward import DenseFeedForward
from tessera.model.low_rank_feed_forward import LowRankFeedForward
from tessera.model.norm import ResidualLayerNorm
from tessera.setting_errors import SettingError

KINDS = pytest.mark.parametrize("kind", ["ultra", "standard", "factored"])


def count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((512, "ultra"), 52_272 // 6),
        ((512, "standard"), 10 * 512 * 64 + 2 * 64 + 2048 + 512),  # r is 64 there, not 32
        ((512, "standard", 32, False), 10 * 512 * 32),
        ((512, "factored", 0, False), 5 * 512**2 // 4),  # 1.25 d², 84.4 % less than 8 d²
        ((256, "ultra"), 2 * 256 * 8 + 8 + 256),  # at least 8
    ],
)
def test_they_have_the_published_parameters(settings: tuple[Any, ...], expected: int) -> None:
    with torch.device("meta"):
        assert count(LowRankFeedForward(*settings)) == expected


def test_two_factors_are_the_dense_layer_of_their_products() -> None:
    torch.manual_seed(0)
    own, dense = LowRankFeedForward(16, "factored", 3, bias=False).double(), DenseFeedForward(16)
    first, second, third, fourth = (layer.weight for layer in own.layers)
    products = {"up.weight": second @ first, "down.weight": fourth @ third}
    hidden = torch.randn(4, 16, dtype=torch.float64, requires_grad=True)
    expected = torch.func.functional_call(dense, products, (hidden,))
    torch.testing.assert_close(own(hidden), expected)
    weights = [hidden, *own.parameters()]
    for one, other in zip(
        torch.autograd.grad(own(hidden).sin().sum(), weights),
        torch.autograd.grad(expected.sin().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(own, hidden)


def test_relus_stand_behind_all_matrices_but_the_last() -> None:
    torch.manual_seed(0)
    for kind in ("ultra", "standard"):
        own = LowRankFeedForward(16, kind, 5)
        hidden = made = torch.randn(3, 16)
        for nth, layer in enumerate(own.layers):
            made = layer(made if nth == 0 else made.clamp(min=0))
        assert len(own.layers) == (2 if kind == "ultra" else 4)
        torch.testing.assert_close(own(hidden), made)


@KINDS
def test_new_ones_answer_with_a_dense_layer_s_variance(kind: str) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(64, 64)
    own, dense = (
        torch.stack([build(64)(hidden) for _ in range(60)]).square().mean().item()
        for build in (lambda d: LowRankFeedForward(d, kind, 16), DenseFeedForward)
    )
    assert own == pytest.approx(dense, rel=0.1)


@KINDS
def test_zero_stays_zero_with_biases(kind: str) -> None:
    own = LowRankFeedForward(16, kind)
    for layer in own.layers:
        nn.init.ones_(layer.bias)
    hidden = torch.randn(3, 16)
    hidden[1] = 0
    assert own(hidden).any(1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "dense"}, "low_rank.kind must be one of ultra, standard, factored, got dense."),
        ({"rank": -1}, "low_rank.rank must be at least 0, got -1."),
    ],
)
def test_what_there_is_none_of_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as refused:
        GameModel(ModelSettings(28, 8, feed_forward="low_rank", low_rank=settings))
    assert str(refused.value) == message
    with pytest.raises(SettingError, match="norm must be one of rms, layer, got batch"):
        GameModel(ModelSettings(28, 8, norm="batch"))


def test_a_layer_norm_is_torchs_and_leaves_zero_alone() -> None:
    torch.manual_seed(0)
    own, theirs = ResidualLayerNorm(12), nn.LayerNorm(12)
    with torch.no_grad():
        for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine.normal_())
    hidden, added = torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    hidden[1, 3] = added[1, 3] = 0
    total, normed = own(hidden, added)
    assert torch.equal(total, hidden + added) and not normed[1, 3].any()
    expected = theirs(hidden + added)
    expected[1, 3] = 0
    assert torch.equal(normed, expected)
    assert torch.equal(own(hidden)[1][0], theirs(hidden)[0])


def test_a_block_s_one_norm_is_used_twice() -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"n_layers": 6, "norm": "layer", "feed_forward": "low_rank"}
    with torch.device("meta"):
        model = GameModel(ModelSettings(28, 512, mixer="attention", shares_norm=True, **settings))
    names = [name for name, _ in model.named_parameters() if "norm" in name]
    assert sum(model.get_parameter(name).numel() for name in names) == 7_168
    # Both parts of a block read what its norm says: with a weight of 0 it adds nothing.
    for shares, is_same in ((True, True), (False, False)):
        small = GameModel(ModelSettings(28, 8, shares_norm=shares, **{**settings, "n_layers": 1}))
        blocks, hidden = small.blocks, torch.randn(2, 3, 8)
        nn.init.zeros_(blocks.norms[0].weight)
        expected = blocks.final_norm(hidden)[1]
        assert torch.equal(blocks(hidden), expected) is is_same
