"""Running sums against torch's, their gradients, and their bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.model import GameModel, ModelSettings
from tessera.model.scans.sums import running_sums


@pytest.mark.parametrize("length", [1, 2, 3, 64, 129])
def test_they_are_the_sums_and_so_are_their_gradients(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(2, length, 3, dtype=torch.float64, generator=generator)
    weights = torch.randn(2, length, 3, dtype=torch.float64, generator=generator)
    for axis, own in ((1, x), (2, x.transpose(1, 2)), (0, x.transpose(0, 1))):
        torch.testing.assert_close(running_sums(own, axis), own.cumsum(axis))
    found = []
    for sums in (running_sums, lambda own: own.cumsum(1)):
        leaf = x.clone().requires_grad_()
        (sums(leaf) * weights).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)


def test_long_sums_of_float32_lose_less_than_a_plain_walk() -> None:
    x = torch.full((1, 100_000), 0.1)
    expected = 0.1 * torch.arange(1, 100_001, dtype=torch.float64)
    assert float((running_sums(x)[0] / expected - 1).abs().max()) < 1e-6


class NoFloatCumsum(TorchDispatchMode):
    """Refuses what torch refuses on a GPU where determinism is asked for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        assert func is not torch.ops.aten.cumsum.default or not found.is_floating_point()
        return found


@pytest.mark.parametrize(
    "settings",
    [
        {"mixer": "mamba2"},
        {"mixer": "gated_delta"},
        {"mixer": "rotating_mamba"},
        {"mixer": "adaptive_rank"},
        {"mixer": "tangent_attention"},
        {"mixer": "context_token"},
        {"features": "landmarks"},
    ],
    ids=str,
)
def test_a_step_can_be_made_where_determinism_is_asked_for(settings: dict[str, Any]) -> None:
    model = GameModel(ModelSettings(28, 16, n_layers=2, **settings))
    tokens = torch.randint(25, (2, 70))
    tables = ()
    if model.features is not None:
        tables = model.features.begun(torch.zeros(2, 70, model.features.num_sets, 5).int())
    with NoFloatCumsum():
        model(tokens, None, tables).sum().backward()
