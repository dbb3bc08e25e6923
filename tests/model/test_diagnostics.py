"""Each of phase 8's options by the property that defines it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tessera.model.diagnostics import (
    agreement,
    apertures,
    apex_angles,
    betti_numbers,
    is_entailed,
    level_density,
    num_sections,
    resonance,
    turns_between,
)
from tessera.model.diagnostics.entailment import innermost
from tessera.model.scans.mobius import mobius_sum
from tessera.model.scans.resolvent import left_green, resolvent_diagonal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_ball(count: int, seed: int) -> torch.Tensor:
    """Points (T, 2) of the ball, spread over all distances from the origin that have a cone."""
    draw = generator(seed)
    direction = F.normalize(torch.randn(count, 2, dtype=torch.float64, generator=draw), dim=-1)
    length = torch.rand(count, 1, dtype=torch.float64, generator=draw)
    return direction * (innermost() + (0.99 - innermost()) * length)


def test_entailment_is_transitive_and_not_symmetric() -> None:
    count = 300
    points = in_ball(count, 0)
    # Of all pairs, but of none with itself.
    one = points[:, None].expand(-1, count, -1)
    other = points[None].expand(count, -1, -1) + 1e-9
    holds = is_entailed(one, other) & ~torch.eye(count, dtype=torch.bool)
    assert 0.005 < float(holds.double().mean()) < 0.5
    chains = holds.double() @ holds.double() > 0  # i entails k, which entails j
    assert int(chains.sum()) > 100
    assert not (chains & ~holds).any()
    assert not (holds & holds.T).any()


def test_the_angle_is_at_the_tip_of_the_cone() -> None:
    one, other = in_ball(100, 1), in_ball(100, 2)
    # Seen from a point that is moved to the origin, ways are straight lines.
    seen = mobius_sum(-one, other)
    expected = F.cosine_similarity(seen, one, dim=-1).acos()
    torch.testing.assert_close(apex_angles(one, other), expected, rtol=1e-6, atol=1e-6)
    # Straight out from a point is inside of every cone, straight back in none.
    outwards = one * (0.5 + 0.5 / one.norm(dim=-1, keepdim=True))
    assert is_entailed(one, outwards).all()
    assert not is_entailed(outwards, one).any()
    assert float(apertures(one * innermost() / one.norm(dim=-1, keepdim=True)).min()) > 1.5
    assert not is_entailed(0.5 * innermost() * F.normalize(one, dim=-1), outwards).any()


def turned(points: torch.Tensor, width: int = 7) -> torch.Tensor:
    """In more dimensions, turned, moved and made larger."""
    basis = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator()))
    flat = F.pad(points, (0, width - points.shape[1]))
    return 3 * flat @ basis.Q + 5


def circle(count: int, radius: float = 1.0) -> torch.Tensor:
    angle = torch.linspace(0, 2 * math.pi, count + 1, dtype=torch.float64)[:-1]
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


LINE = torch.stack([torch.linspace(0, 1, 400).double(), torch.zeros(400).double()], 1)


@pytest.mark.parametrize(
    ("points", "pieces", "loops"),
    [
        (circle(400), 1, 1),
        (LINE, 1, 0),
        (torch.cat([LINE, LINE + torch.tensor([0.0, 9.0])]), 2, 0),
        (torch.cat([circle(400), circle(400) + 9]), 2, 2),
        (torch.cat([circle(400), LINE + 9]), 2, 1),
        (torch.zeros(5, 2).double(), 1, 0),
    ],
    ids=["circle", "line", "two lines", "two circles", "circle and line", "one point"],
)
def test_pieces_and_loops_are_counted_wherever_they_lie(
    points: torch.Tensor, pieces: int, loops: int
) -> None:
    for own in (points, turned(points)):
        assert betti_numbers(own, 16) == (pieces, loops)


def rotation(width: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(
        torch.randn(width, width, dtype=torch.float64, generator=generator(seed))
    ).Q


def test_heads_that_say_the_same_in_other_words_agree_and_others_do_not() -> None:
    said = torch.randn(200, 1, 5, dtype=torch.float64, generator=generator())
    same = torch.cat([said @ rotation(5, seed) for seed in range(3)], 1)
    turns = turns_between(same)
    torch.testing.assert_close(agreement(same, turns), torch.ones(3, 3).double())
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(same[:, i] @ turns[i, j].T, same[:, j])
    others = torch.randn(200, 3, 5, dtype=torch.float64, generator=generator(1))
    between = agreement(others, turns_between(others))
    assert float(between.fill_diagonal_(0).max()) < 0.5
    # However small what they say is.
    small = agreement(1e-3 * others, turns_between(others)).fill_diagonal_(0)
    torch.testing.assert_close(small, between)


def test_maps_that_agree_around_loops_have_sections_and_a_twist_costs_some() -> None:
    words = [rotation(4, seed) for seed in range(3)]
    maps = torch.stack([torch.stack([b @ a.T for b in words]) for a in words])
    assert num_sections(maps) == 4
    twist = torch.eye(4, dtype=torch.float64)
    twist[0, 0] = -1
    twisted = maps.clone()
    twisted[0, 2] = words[2] @ twist @ words[0].T
    assert num_sections(twisted) == 3
    twisted[0, 2] = -maps[0, 2]
    assert num_sections(twisted) == 0
    assert num_sections(maps[:1, :1]) == 4
    said = torch.randn(200, 1, 4, dtype=torch.float64, generator=generator())
    same = torch.cat([said @ word for word in words], 1)
    assert num_sections(turns_between(same)) == 4


def test_an_even_chain_has_its_levels_within_two_of_its_potential() -> None:
    energies = torch.linspace(-4, 4, 2_001, dtype=torch.float64)
    ones = torch.ones(len(energies), 59, dtype=torch.complex128)
    z = torch.complex(energies, torch.full_like(energies, 0.05))[:, None]
    diagonal = torch.zeros(len(energies), 60, dtype=torch.complex128)
    density = level_density(resolvent_diagonal(diagonal, ones, ones, z))[:, 30]
    assert (density > 0).all()
    assert float(torch.trapezoid(density, energies)) == pytest.approx(1, abs=0.02)
    outside = energies.abs() > 2.2
    assert float(torch.trapezoid(density * ~outside, energies)) > 0.95
    assert float(density[outside].max()) < 0.05


def test_a_long_chain_s_green_function_is_that_of_a_half_line() -> None:
    for energy, expected in ((1.0, 0.5), (0.0, 0.0), (3.0, (3 - 5**0.5) / 2)):
        alpha = torch.full((1, 4_000), complex(energy, -0.01), dtype=torch.complex128)
        green = left_green(alpha, torch.ones_like(alpha))[0, -1:]
        # Within the band Re g is half the energy, beyond it falls.
        assert float(resonance(green)) == pytest.approx(expected, abs=0.01)
    assert float(resonance(torch.tensor([3 + 1j, -1 + 0j]))) == 2
