"""The ball against its formulas, attention by distance and in windows against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tessera.model.distance_attention import DistanceAttention, plain_attention
from tessera.model.hyperbolic import MOST, distances, exp_0, lifted, log_0
from tessera.model.mixers.poincare_attention import PoincareAttentionMixer
from tessera.model.mixers.rotary import rotated
from tessera.model.mixers.tangent_attention import TangentAttentionMixer
from tessera.model.scans.linear_attention import linear_attention

D_MODEL = 12


def tangents(*shape: int, size: float = 0.6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(*shape, dtype=torch.float64, generator=generator)


def in_ball(x: torch.Tensor, y: torch.Tensor, c: float) -> torch.Tensor:
    """The distance of two points (…, P) of the ball, as MUSE phase 7 writes it."""
    apart = (x - y).square().sum(-1)
    shrunk = (1 - c * x.square().sum(-1)) * (1 - c * y.square().sum(-1))
    return (1 + 2 * c * apart / shrunk).acosh() / math.sqrt(c)


@pytest.mark.parametrize("c", [0.1, 0.693, 2.0])
def test_distances_are_those_of_the_ball(c: float) -> None:
    curvature = torch.tensor(c, dtype=torch.float64)
    one, other = tangents(5, 4), tangents(7, 4, seed=1)
    found = distances(lifted(one, curvature), lifted(other, curvature), curvature)
    x, y = exp_0(one, curvature), exp_0(other, curvature)
    assert float(x.norm(dim=-1).max()) < 1 / math.sqrt(c)
    torch.testing.assert_close(found, in_ball(x[:, None], y[None], c))
    torch.testing.assert_close(log_0(x, curvature), one)
    # From the origin a distance is twice the length of the tangent vector.
    origin = lifted(torch.zeros(1, 4, dtype=torch.float64), curvature)
    from_origin = distances(origin, lifted(one, curvature), curvature)[0]
    torch.testing.assert_close(from_origin, 2 * one.norm(dim=-1))
    # Turning both about the origin, as rotary positions do, leaves it as it is.
    place = torch.tensor([5])
    turned = [rotated(v[None], place, 1)[0] for v in (one, other)]
    again = distances(*(lifted(v, curvature) for v in turned), curvature)
    torch.testing.assert_close(again, found)


def test_a_ball_that_is_nearly_flat_has_euclidean_distances() -> None:
    c = torch.tensor(1e-4, dtype=torch.float64)
    one, other = tangents(5, 4), tangents(7, 4, seed=1)
    found = distances(lifted(one, c), lifted(other, c), c)
    torch.testing.assert_close(found, 2 * torch.cdist(one, other), rtol=1e-3, atol=0)


def test_points_far_out_are_cut_off_and_all_gradients_are_finite() -> None:
    c = torch.tensor(0.5, requires_grad=True)
    # Zero, a point twice, and points beyond any that float32 tells apart.
    rows = torch.stack([torch.zeros(4), torch.ones(4), torch.ones(4), 1e3 * torch.ones(4)])
    rows.requires_grad_()
    found = distances(lifted(rows, c), lifted(rows, c), c)
    assert float(found.detach().max()) == pytest.approx(2 * MOST / math.sqrt(0.5), rel=1e-5)
    assert float(found.detach().diagonal()[:3].max()) < 0.01
    found.sum().backward()
    assert rows.grad is not None and c.grad is not None
    assert rows.grad.isfinite().all() and c.grad.isfinite()


def by_distance(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, c: float, beta: float):
    """The mixed value of one query (P,) over keys (M, P)."""
    curvature = torch.tensor(c)
    x, y = exp_0(q, curvature), exp_0(k, curvature)
    return (-beta * in_ball(x, y, c)).softmax(0) @ v


@pytest.mark.parametrize(("window", "num_heads"), [(4, 2), (1, 1), (40, 3)])
@torch.no_grad()
def test_poincare_attention_is_a_softmax_over_distances_of_the_last_moves(
    window: int, num_heads: int
) -> None:
    torch.manual_seed(window)
    mixer = PoincareAttentionMixer(D_MODEL, num_heads, window)
    mixer.curvature += 0.5
    mixer.sharpness += 0.7
    c, beta = (float(F.softplus(x)) for x in (mixer.curvature, mixer.sharpness))
    hidden = torch.randn(2, 23, D_MODEL)
    q, k, v = (hidden @ mixer.in_proj.weight.T).chunk(3, -1)
    width = D_MODEL // num_heads
    q, k = (rotated(x, torch.arange(23), num_heads) / math.sqrt(width) for x in (q, k))
    mixed = torch.zeros_like(hidden)
    for game in range(2):
        for head in range(num_heads):
            own = slice(head * width, (head + 1) * width)
            for at in range(23):
                seen = slice(max(0, at - window + 1), at + 1)
                keys, values = k[game, seen, own], v[game, seen, own]
                mixed[game, at, own] = by_distance(q[game, at, own], keys, values, c, beta)
    expected = mixed @ mixer.out_proj.weight.T
    assert expected.std() > 0.05
    torch.testing.assert_close(mixer(hidden), expected, rtol=1e-3, atol=1e-4)
    state = mixer.init_state(2)
    assert state.keys.shape == (2, window, D_MODEL)
    for at in range(23):
        step = mixer.step_in_place(hidden[:, at], state, torch.full((2,), at == 0))
        torch.testing.assert_close(step, expected[:, at], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_what_is_older_than_the_window_is_forgotten() -> None:
    torch.manual_seed(0)
    mixer = PoincareAttentionMixer(D_MODEL, 1, 5)
    hidden = torch.randn(1, 30, D_MODEL)
    changed = hidden.clone()
    changed[0, 7] += 1
    is_same = (mixer(changed) == mixer(hidden)).all(-1)[0]
    assert is_same.nonzero().flatten().tolist() == [*range(7), *range(12, 30)]


def test_poincare_attention_has_two_numbers_more_than_attention_and_both_learn() -> None:
    mixer = PoincareAttentionMixer(512)
    assert sum(p.numel() for p in mixer.parameters()) == 4 * 512**2 + 2
    assert float(F.softplus(mixer.curvature.detach())) == pytest.approx(math.log(2))  # as published
    mixer(torch.randn(2, 9, 512)).square().sum().backward()
    assert mixer.curvature.grad and mixer.sharpness.grad


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_linear_attention_in_chunks_is_a_sum_over_the_past(chunk: int) -> None:
    q, k, v = (tangents(2, 10, 3, n, seed=n) for n in (4, 4, 5))
    before = tangents(2, 3, 4, 5, seed=9)
    found, after = linear_attention(q, k, v, before, chunk)
    sums = before
    for at in range(10):
        sums = sums + k[:, at, :, :, None] * v[:, at, :, None, :]
        expected = (q[:, at, :, None] @ sums).squeeze(2)
        torch.testing.assert_close(found[:, at], expected)
    torch.testing.assert_close(after, sums)


def shrunk(vectors: torch.Tensor, c: float) -> torch.Tensor:
    reach = math.sqrt(c) * vectors.norm(dim=-1, keepdim=True).clamp(max=15)
    return vectors * reach.tanh() / reach


@pytest.mark.parametrize(
    ("mode", "c", "share"),
    [
        ("linear", 0.01, 0),
        ("linear", 2.0, 0),
        ("exact", 0.01, 1),
        ("exact", 2.0, 1),
        ("hybrid", 0.05, 0),
        ("hybrid", 0.28, 0.2),
        ("hybrid", 0.73, 0.7),
        ("hybrid", 1.5, 1),
    ],
)
@torch.no_grad()
def test_tangent_attention_is_its_formula(mode: str, c: float, share: float) -> None:
    torch.manual_seed(1)
    mixer = TangentAttentionMixer(D_MODEL, 2, mode, c)
    mixer.out_proj.weight *= 20
    hidden = torch.randn(1, 9, D_MODEL)
    q, k, v = mixer.in_proj(hidden[0]).chunk(3, -1)
    mixed = torch.zeros(9, D_MODEL)
    for own in (slice(0, 6), slice(6, 12)):
        for at in range(9):
            keys, values = k[: at + 1, own], v[: at + 1, own]
            weights = (F.elu(keys) + 1) @ (F.elu(q[at, own]) + 1)
            linear = weights @ values / weights.sum()
            scale = 6**-0.5
            exact = by_distance(scale * q[at, own], scale * keys, values, c, 1.0)
            mixed[at, own] = (1 - share) * linear + share * exact
    expected = shrunk(mixer.out_proj(mixed), c)
    torch.testing.assert_close(mixer(hidden)[0], expected, rtol=1e-3, atol=1e-4)


def test_what_leaves_is_shrunk_as_published_and_curvature_is_learned() -> None:
    factors = [float(shrunk(torch.tensor([n]), 0.01) / n) for n in (1.0, 10.0, 15.0, 40.0)]
    assert factors == pytest.approx([0.997, 0.762, 0.603, 0.603], abs=1e-3)
    for mode in ("linear", "exact", "hybrid"):
        mixer = TangentAttentionMixer(64, mode=mode, curvature=0.5)
        assert sum(p.numel() for p in mixer.parameters()) == 4 * (64**2 + 64) + 1
        mixer(torch.randn(2, 9, 64)).square().sum().backward()
        assert mixer.curvature.grad is not None and mixer.curvature.grad != 0


@pytest.mark.parametrize(
    ("mode", "numbers"),
    # Sums of two heads of 6, and keys and values of 50 moves.
    [("linear", 2 * 6 * 7), ("exact", 2 * 50 * 12), ("hybrid", 2 * 6 * 7 + 2 * 50 * 12)],
)
def test_a_state_has_what_its_mode_needs(mode: str, numbers: int) -> None:
    state = TangentAttentionMixer(D_MODEL, 2, mode, window=50).init_state(3)
    assert sum(tensor[0].numel() for tensor in state[:3]) == numbers


@pytest.mark.parametrize(
    ("kind", "settings", "line"),
    [
        ("tangent", {"mode": "fast"}, "mode must be one of linear, exact, hybrid, got fast."),
        ("tangent", {"curvature": 0}, "curvature must be more than 0, got 0."),
        ("tangent", {"num_heads": 5}, "num_heads must divide d_model, 12, got 5."),
        ("tangent", {"window": 0}, "window must be a whole number of at least 1, got 0."),
        ("poincare", {"window": 0}, "window must be a whole number of at least 1, got 0."),
        (
            "poincare",
            {"num_heads": 4},
            "num_heads must divide d_model, 12, into even widths, got 4.",
        ),
    ],
)
def test_settings_out_of_range_are_refused(kind: str, settings: dict, line: str) -> None:
    mixer = {"tangent": TangentAttentionMixer, "poincare": PoincareAttentionMixer}[kind]
    with pytest.raises(ValueError) as error:
        mixer(D_MODEL, **settings)
    assert str(error.value) == line


def heads(*shape: int, seed: int, size: float = 0.6) -> torch.Tensor:
    return tangents(*shape, size=size, seed=seed).requires_grad_()


@pytest.mark.parametrize("size", [0.05, 0.6, 3.0])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_the_gradients_by_hand_are_those_of_the_plain_form(size: float, width: int) -> None:
    q, k, v = (heads(2, 3, 5, width, seed=seed, size=size) for seed in range(3))
    with torch.no_grad():
        q[0, 0, 0] = k[0, 0, 0]  # a point twice, whose distance is clamped
        q[1, 1, 1] = 0
    c, beta = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.7, 1.3))
    sees = torch.ones(5, 5, dtype=torch.bool).tril()[None].repeat(2, 1, 1)
    sees[1, 4, 2] = False
    upstream = tangents(2, 3, 5, width, seed=4)
    outputs, gradients = [], []
    for attend in (plain_attention, DistanceAttention.apply):
        inputs = (q, k, v, c, beta)
        mixed = attend(q, k, v, sees, c, beta)
        outputs.append(mixed)
        gradients.append(torch.autograd.grad(mixed, inputs, upstream))
    torch.testing.assert_close(*outputs)
    for plain, own in zip(*gradients, strict=True):
        torch.testing.assert_close(own, plain)


def test_gradients_by_hand_pass_torchs_own_check() -> None:
    q, k, v = (heads(1, 2, 3, 4, seed=seed) for seed in range(3))
    c, beta = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.7, 1.3))
    sees = torch.ones(1, 3, 3, dtype=torch.bool).tril()
    assert torch.autograd.gradcheck(
        lambda *own: DistanceAttention.apply(*own[:3], sees, *own[3:]), (q, k, v, c, beta)
    )


def test_equal_points_have_no_gradient_in_float32_either() -> None:
    q = tangents(1, 1, 4, 8).float().requires_grad_()
    v = tangents(1, 1, 4, 8, seed=1).float()
    c = torch.tensor(0.7)
    sees = torch.ones(1, 4, 4, dtype=torch.bool)
    found = [
        torch.autograd.grad(attend(q, q.detach(), v, sees, c, c).square().sum(), q)[0]
        for attend in (plain_attention, DistanceAttention.apply)
    ]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_turning_back_is_the_gradient_of_turning() -> None:
    x = heads(2, 5, 12, seed=0)
    place = torch.arange(5)
    assert torch.autograd.gradcheck(lambda x: rotated(x, place, 3, 0.3), (x,))
    assert torch.autograd.gradgradcheck(lambda x: rotated(x, place, 3, 0.3), (x,))
    torch.testing.assert_close(rotated(x, place, 3, 0.3), 0.3 * rotated(x, place, 3))
