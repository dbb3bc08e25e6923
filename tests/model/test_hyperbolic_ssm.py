"""Möbius operations by their properties, the recurrence, and the state space made of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tessera.model.hyperbolic import exp_0, log_0
from tessera.model.mixers.hyperbolic_ssm import HyperbolicSSMMixer
from tessera.model.scans.mobius import (
    FURTHEST,
    LIMIT,
    drawn_back,
    mobius_scan,
    mobius_step,
    mobius_sum,
    plain_mobius_scan,
)
from tests.model.mobius_cases import mobius_cases
from tests.model.scan_cases import as_float64, run

ONE = torch.ones((), dtype=torch.float64)


def points(count: int, length: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, 6, dtype=torch.float64, generator=generator)
    return length * F.normalize(directions, dim=-1)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of points of the ball, by the addition: ``2 artanh ‖−x ⊕ y‖``."""
    return 2 * mobius_sum(-x, y).norm(dim=-1).atanh()


def test_mobius_sums_have_an_identity_inverses_and_move_the_ball_without_stretching_it() -> None:
    x, y, z = (points(50, 0.6, seed) for seed in range(3))
    zero = torch.zeros_like(x)
    torch.testing.assert_close(mobius_sum(zero, x), x)
    torch.testing.assert_close(mobius_sum(x, zero), x)
    torch.testing.assert_close(mobius_sum(-x, mobius_sum(x, y)), y)
    torch.testing.assert_close(distance(mobius_sum(z, x), mobius_sum(z, y)), distance(x, y))
    apart = (x - y).square().sum(-1)
    expected = (1 + 2 * apart / (1 - 0.36) ** 2).acosh()
    torch.testing.assert_close(distance(x, y), expected)
    assert float(mobius_sum(points(50, 0.99), points(50, 0.99, 1)).norm(dim=-1).max()) < 1


def test_mobius_sums_cannot_be_regrouped_so_no_parallel_scan_is_one() -> None:
    x, y, z = (points(200, 0.6, seed) for seed in range(3))
    one, other = mobius_sum(mobius_sum(x, y), z), mobius_sum(x, mobius_sum(y, z))
    assert float((one - other).norm(dim=-1).mean()) > 0.05


def test_a_step_is_scaling_by_a_matrix_and_then_a_sum() -> None:
    before, drive = points(5, 0.7), points(5, 0.3, 1)
    # Of one factor for all it is the Möbius multiplication by a number.
    scaled = 0.4 * before.norm(dim=-1, keepdim=True).atanh()
    expected = mobius_sum(scaled.tanh() * F.normalize(before, dim=-1), drive)
    torch.testing.assert_close(mobius_step(torch.full_like(drive, 0.4), drive, before), expected)
    decay = torch.rand(5, 6, dtype=torch.float64)
    expected = mobius_sum(exp_0(decay * log_0(before, ONE), ONE), drive)
    torch.testing.assert_close(mobius_step(decay, drive, before), expected)
    left_out = mobius_step(torch.ones_like(drive), torch.zeros_like(drive), before)
    torch.testing.assert_close(left_out, before)


def test_points_are_drawn_back_from_the_border_once() -> None:
    far = drawn_back(points(5, 3.0))
    torch.testing.assert_close(far.norm(dim=-1), torch.full((5,), FURTHEST).double())
    assert torch.equal(drawn_back(far), far)
    near = points(5, 0.98)
    assert torch.equal(drawn_back(near), near)
    generator = torch.Generator().manual_seed(0)
    drive = drawn_back(torch.randn(3, 500, 8, generator=generator))
    found = plain_mobius_scan(torch.ones_like(drive), drive, torch.zeros(3, 8))
    assert float(found.norm(dim=-1).max()) <= LIMIT + 1e-6
    assert found.isfinite().all()


@torch.no_grad()
def test_the_mixer_is_its_formula() -> None:
    torch.manual_seed(0)
    mixer = HyperbolicSSMMixer(12, 5)
    mixer.in_proj.weight *= 3
    mixer.norm.bias += 0.3 * torch.randn(5)
    hidden = torch.randn(1, 12, 12)
    last = torch.zeros(5)
    for at in range(12):
        rate, drive, gate, step = mixer.in_proj(hidden[0, at]).chunk(4)
        dt = F.softplus(step)
        decay = torch.exp(-dt * F.softplus(rate))
        entering = drawn_back(exp_0(mixer.norm(drive) * dt, torch.ones(())))
        last = mobius_step(decay, entering, last)
        expected = mixer.out_proj(log_0(last, torch.ones(())) * gate.sigmoid())
        torch.testing.assert_close(mixer(hidden)[0, at], expected, rtol=1e-4, atol=1e-5)
    assert 0.1 < float(last.norm()) < LIMIT


def test_a_new_mixer_has_small_steps_and_a_state_of_a_quarter_of_its_width() -> None:
    mixer = HyperbolicSSMMixer(64)
    assert mixer.init_state(3).point.shape == (3, 16)
    steps = F.softplus(mixer.in_proj.bias.detach()[-16:])
    assert 1e-3 <= float(steps.min()) < float(steps.max()) <= 0.1 + 1e-6
    assert HyperbolicSSMMixer(3).d_state == 1
    with pytest.raises(ValueError, match="d_state must be a whole number of at least 1, got 0"):
        HyperbolicSSMMixer(64, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", mobius_cases())
def test_the_recurrence_on_a_gpu_and_its_gradients_are_the_plain_ones(name: str) -> None:
    expected = run(plain_mobius_scan, as_float64(mobius_cases()[name]))
    actual = run(mobius_scan, mobius_cases("cuda")[name])
    for key, value in expected.items():
        error = float((actual[key].cpu() - value).abs().max())
        assert error <= 3e-5 * float(value.abs().max()), key
