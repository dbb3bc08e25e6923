"""The diversity losses: their formulas, ranges and gradients, and that PAD counts nowhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tessera.training.effective_rank import effective_rank
from tessera.training.objectives.diversity import DIVERSITIES

N, C = 12, 5


def formula(name: str, x: Tensor) -> Tensor:
    """As they are written down, of contexts that all count."""
    n, d = x.shape
    centred = x - x.mean(0)
    if name in ("mcdl", "oacd"):
        moved = 0.1 * x.mean(0).square().sum() if name == "oacd" else 0
        return -centred.square().sum().sqrt() / n + moved
    if name == "odcm":
        covariance = torch.cov(x.T)
        off = covariance - torch.diag(torch.diag(covariance))
        hinge = torch.relu(1 - (x.var(0) + 1e-4).sqrt()).mean()
        return hinge + 0.04 * off.square().sum() / d
    if name == "sdl":
        return -effective_rank(x).log()
    return -torch.linalg.matrix_norm(centred, "nuc") / n


RANGES: dict[str, Callable[[int, int], tuple[float, float]]] = {
    "mcdl": lambda n, d: (-math.sqrt(d / n), 0.0),
    "odcm": lambda n, d: (0.0, math.inf),
    "sdl": lambda n, d: (-math.log(min(n, d)), 0.0),
    "nuc": lambda n, d: (-math.sqrt(d * min(n, d) / n), 0.0),
    "oacd": lambda n, d: (-math.sqrt(d / n), math.inf),
}


def contexts(kind: str) -> Tensor:
    """Outputs of a layer norm: different ones, or all nearly the same."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, C, generator=generator, dtype=torch.float64)
    if kind == "alike":
        x = x[:1] + 1e-3 * x
    return torch.nn.functional.layer_norm(x, (C,))


@pytest.mark.parametrize("name", DIVERSITIES)
@pytest.mark.parametrize("kind", ["different", "alike"])
def test_a_loss_is_its_formula_within_its_range(name: str, kind: str) -> None:
    x = contexts(kind)
    loss = DIVERSITIES[name].of(x, torch.ones(N, dtype=x.dtype))
    torch.testing.assert_close(loss, formula(name, x))
    low, high = RANGES[name](N, C)
    assert low - 1e-9 <= float(loss) <= high + 1e-9
    if kind == "different":
        alike = contexts("alike")
        assert loss < DIVERSITIES[name].of(alike, torch.ones(N, dtype=x.dtype))


@pytest.mark.parametrize("name", DIVERSITIES)
def test_its_gradient_is_right_and_a_step_along_it_makes_contexts_differ(name: str) -> None:
    loss = DIVERSITIES[name].of
    counted = torch.ones(N, dtype=torch.float64)
    x = torch.randn(N, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda own: loss(own, counted), (x,))
    x = contexts("alike").requires_grad_()
    for _ in range(300):
        normed = torch.nn.functional.layer_norm(x, (C,))
        (gradient,) = torch.autograd.grad(loss(normed, counted), x)
        with torch.no_grad():
            x -= 1e-2 * gradient / gradient.norm()
    spread = [float((own - own.mean(0)).norm()) for own in (contexts("alike"), normed.detach())]
    assert spread[1] > 100 * spread[0]


@pytest.mark.parametrize("name", DIVERSITIES)
def test_positions_that_do_not_count_make_no_difference(name: str) -> None:
    x = contexts("different")
    counted = torch.ones(N, dtype=x.dtype)
    more = torch.cat([x, 100 * torch.ones(3, C, dtype=x.dtype)])
    of_more = torch.cat([counted, torch.zeros(3, dtype=x.dtype)])
    loss = DIVERSITIES[name].of
    torch.testing.assert_close(loss(more, of_more), loss(x, counted))
