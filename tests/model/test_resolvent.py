"""Green's functions of tridiagonal matrices against dense inverses, gradients too; and BK-Core."""

from __future__ import annotations

import pytest
import torch

from tessera.model.mixers.bk_core import BKCoreMixer
from tessera.model.scans.resolvent import left_green, resolvent_diagonal, sequential_green


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def dense(diagonal: torch.Tensor, above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """H (B, N, N) of its three diagonals."""
    return torch.diag_embed(diagonal) + torch.diag_embed(above, 1) + torch.diag_embed(below, -1)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 37])
def test_the_diagonal_and_its_gradients_are_those_of_the_dense_inverse(size: int) -> None:
    parts = [random(2, n, seed=n + k) for k, n in enumerate((size, size - 1, size - 1))]
    z = torch.tensor(0.3 + 2.5j, dtype=torch.complex128)
    weights = random(2, size, seed=9)
    found = []
    for is_dense in (False, True):
        leaves = [part.clone().requires_grad_() for part in (*parts, z)]
        if is_dense:
            shift = leaves[3] * torch.eye(size, dtype=torch.complex128)
            inverse = torch.linalg.inv(dense(*leaves[:3]) - shift)
            own = inverse.diagonal(dim1=1, dim2=2)
        else:
            own = resolvent_diagonal(*leaves)
        loss = (own * weights).sum().abs() + own.imag.square().sum()
        gradients = torch.autograd.grad(loss, leaves, allow_unused=size == 1)
        found.append([own.detach(), *(x for x in gradients if x is not None)])
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-10)


def test_torch_s_own_check_of_gradients_passes() -> None:
    parts = [random(2, n, 2, seed=n + k).requires_grad_() for k, n in enumerate((6, 5, 5))]
    z = (2.5j * torch.ones(2, dtype=torch.complex128)).requires_grad_()
    assert torch.autograd.gradcheck(resolvent_diagonal, (*parts, z))
    alpha, products = parts[0].detach() - 2.5j, random(2, 6, 2, seed=5)
    before = random(2, 2, seed=6)
    is_pad = torch.tensor([[1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 0, 0]]).bool()[..., None]
    arguments = [x.requires_grad_() for x in (alpha, products, before)]
    assert torch.autograd.gradcheck(left_green, (*arguments, is_pad.expand(alpha.shape)))


@pytest.mark.parametrize("length", [1, 2, 5, 16, 33])
def test_rounds_give_what_positions_one_by_one_give(length: int) -> None:
    alpha, products, before = random(3, length) - 3j, random(3, length, seed=1), random(3, seed=2)
    is_pad = torch.rand(3, length, generator=torch.Generator().manual_seed(3)) < 0.3
    for asked in ((), (before,), (None, is_pad), (before, is_pad)):
        own, expected = (f(alpha, products, *asked) for f in (left_green, sequential_green))
        torch.testing.assert_close(own, expected, rtol=1e-11, atol=1e-12)


def test_the_left_function_is_the_corner_of_the_inverse_of_what_was_so_far() -> None:
    diagonal, above, below = (random(2, n, seed=n) for n in (9, 8, 8))
    alpha = diagonal - 2j
    products = torch.cat([torch.zeros(2, 1), above * below], 1)
    green = left_green(alpha, products)
    for size in range(1, 10):
        block = dense(alpha, above, below)[:, :size, :size]
        torch.testing.assert_close(green[:, size - 1], torch.linalg.inv(block)[:, -1, -1])


@pytest.mark.parametrize("width", [0.1, 0.5, 1.3])
def test_no_value_is_beyond_one_over_the_width_and_none_is_lost_in_long_games(width: float) -> None:
    generator = torch.Generator().manual_seed(0)
    sites = 3 * torch.randn(2, 722, dtype=torch.float64, generator=generator) - 2
    ones = torch.ones(2, 722, dtype=torch.complex128)
    alpha = torch.complex(sites, torch.full_like(sites, -width))
    for found in (
        left_green(alpha, ones),
        resolvent_diagonal(sites.to(ones.dtype), ones[:, 1:], ones[:, 1:], 1j * width * ones),
    ):
        assert float(found.abs().max()) <= 1 / width
        assert float(found.imag.min()) >= 0
    rounded = left_green(alpha.to(torch.complex64), ones.to(torch.complex64))
    expected = sequential_green(alpha, ones)
    assert float((rounded - expected).abs().max()) < 2e-4 / width


def test_the_left_function_knows_nothing_of_the_future_and_the_diagonal_all() -> None:
    alpha, ones = random(2, 20) - 2j, torch.ones(2, 20, dtype=torch.complex128)
    changed = torch.cat([alpha[:, :12], random(2, 8, seed=4) - 2j], 1)
    one, other = left_green(alpha, ones), left_green(changed, ones)
    assert torch.equal(one[:, :12], other[:, :12])
    assert (one[:, 12:] != other[:, 12:]).all()
    one, other = (resolvent_diagonal(x, ones[:, 1:], ones[:, 1:], 0j) for x in (alpha, changed))
    assert (one[:, :12] != other[:, :12]).all()


@torch.no_grad()
def test_a_new_mixer_forgets_a_move_in_about_ten() -> None:
    torch.manual_seed(0)
    mixer = BKCoreMixer(8)
    hidden = torch.randn(64, 20, 8)
    changed = hidden.clone()
    changed[:, 5] = torch.randn(64, 8)
    moved = (mixer(changed) - mixer(hidden)).norm(dim=-1).mean(0)
    assert not moved[:5].any()
    assert moved[5] > 0.05
    assert moved[15] < 1e-5 * moved[5]


@torch.no_grad()
def test_the_mixer_is_its_formula_and_goes_on_from_two_numbers() -> None:
    torch.manual_seed(0)
    mixer = BKCoreMixer(8, num_chains=3)
    mixer.features.potential.weight *= 4  # so that some potentials are cut off
    mixer.features.width += torch.tensor([-3.0, 0.0, 2.0])
    hidden = torch.randn(1, 30, 8)
    width = 0.1 + torch.nn.functional.softplus(mixer.features.width)
    last = torch.zeros(3, dtype=torch.complex64)
    cut = 0
    for at in range(30):
        potential = mixer.features.potential(hidden[0, at])
        cut += int((potential.abs() > 3).sum())
        last = 1 / (-2 + potential.clamp(-3, 3) - 1j * width - last)
        expected = mixer.out_proj(torch.cat([last.real, last.imag]))
        torch.testing.assert_close(mixer(hidden)[0, at], expected, rtol=1e-4, atol=1e-5)
    assert cut > 5
    assert mixer.init_state(7).green.shape == (7, 3, 2)
    start = 0.1 + torch.nn.functional.softplus(BKCoreMixer(8).features.width)
    assert float(start) == pytest.approx(1.31326, abs=1e-4)  # softplus(1), as published
