"""Mixers whose transitions can undo: what weights set by hand make them track, for ever."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model import MambaStateCapture, ModelSettings
from tessera.model.mixers.gated_delta import GatedDeltaMixer
from tessera.model.mixers.rotating_mamba import RotatingMambaMixer
from tessera.model.model import GameModel
from tessera.model.scans.rotating import rotating_scan
from tessera.model.scans.selective import selective_scan
from tests.model.dual_cases import relative_errors

BEGIN, ZERO, ONE = range(3)
BITS = torch.randint(2, (200,), generator=torch.Generator().manual_seed(1))


def signs(tokens: Tensor, mixer: torch.nn.Module) -> Tensor:
    """The sign of what a mixer says after each bit, read through one-hot vectors of 3 tokens."""
    hidden = F.one_hot(torch.cat((torch.tensor([BEGIN]), 1 + tokens)), 3).float()
    with torch.no_grad():
        return mixer(hidden[None])[0, 1:, 0].sign()


@torch.no_grad()
def parity_by_delta(negative: bool) -> GatedDeltaMixer:
    """A memory of one number: BEGIN writes a 1, ONE writes over it as far as a transition can."""
    mixer = GatedDeltaMixer(3, 1, key_dim=1, value_dim=1, d_conv=1, negative=negative)
    for parameter in mixer.parameters():
        parameter.zero_()
    mixer.A_log.fill_(-100.0)  # nothing fades
    mixer.norm_weight.fill_(1.0)
    mixer.conv1d.weight.fill_(1.0)
    mixer.out_proj.weight[0] = 1.0
    gate, query, key, value, _, beta = range(6)  # rows of the projection; columns are tokens
    mixer.in_proj.weight[[gate, query, key]] = 1.0
    mixer.in_proj.weight[value, BEGIN] = 2.0
    mixer.in_proj.weight[beta] = torch.tensor([0.0, -100.0, 100.0])
    return mixer


def test_a_delta_rule_down_to_minus_1_knows_the_parity_of_200_bits_and_down_to_0_does_not() -> None:
    expected = 1 - 2.0 * (BITS.cumsum(0) % 2)
    assert torch.equal(signs(BITS, parity_by_delta(negative=True)), expected)
    # A 1 forgets what was there: nothing is left to have a sign.
    forgetful = signs(BITS, parity_by_delta(negative=False))
    assert not torch.equal(forgetful, expected)


@torch.no_grad()
@pytest.mark.parametrize(("negative", "least"), [(True, -1.0), (False, 0.0)])
def test_no_weights_lead_beyond_the_eigenvalues_that_were_asked_for(
    negative: bool, least: float
) -> None:
    torch.manual_seed(0)
    mixer = GatedDeltaMixer(8, 2, key_dim=4, value_dim=4, negative=negative)
    gates = 30 * torch.randn(1000, 4)
    fade, beta = mixer._fade_and_beta(gates)
    along_key = fade.exp() * (1 - beta)
    assert float(fade.max()) <= 0
    assert least <= float(along_key.min()) < least + 1e-3


@torch.no_grad()
def test_a_state_that_turns_by_pi_knows_the_parity_of_200_bits() -> None:
    mixer = RotatingMambaMixer(3, d_state=2, d_conv=1, expand=1)
    for parameter in mixer.parameters():
        parameter.zero_()
    mixer.A_log.fill_(-100.0)
    mixer.conv1d.weight.fill_(1.0)
    mixer.dt_proj.bias.fill_(1.0)
    mixer.out_proj.weight[0] = 1.0
    # Channels are tokens, of which only BEGIN's has anything to remember and all have a gate.
    mixer.in_proj.weight[:3] = torch.eye(3)
    mixer.in_proj.weight[3:] = 1.0
    _, enters, _, leaves, _, angle = range(6)
    mixer.x_proj.weight[enters, BEGIN] = 1.0
    mixer.x_proj.weight[leaves] = 1.0
    mixer.x_proj.weight[angle, ONE] = 100.0
    expected = 1 - 2.0 * (BITS.cumsum(0) % 2)
    assert torch.equal(signs(BITS, mixer), expected)
    mixer.x_proj.weight[angle] = 0.0
    assert bool((signs(BITS, mixer) == 1).all())


def turning_one_by_one(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    dt_bias: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """What ``rotating_scan`` has to return, with pairs as complex numbers."""
    paired = lambda t: torch.complex(*t.chunk(2, -1))  # noqa: E731
    now, enters, leaves = paired(state), paired(B), paired(C)
    outputs = []
    for t in range(x.shape[1]):
        delta = F.softplus(dt[:, t] + dt_bias)[..., None]
        turn = torch.exp(torch.complex(delta * A, angle[:, t, None].expand(-1, len(A), -1)))
        now = turn * now + delta * enters[:, t, None] * x[:, t, :, None]
        y = (now * leaves[:, t, None].conj()).real.sum(2) + D * x[:, t]
        outputs.append(y * F.silu(z[:, t]))
    return torch.stack(outputs, 1), torch.cat((now.real, now.imag), -1)


@pytest.mark.parametrize("length", [1, 2, 23])
def test_a_scan_of_turned_b_and_c_is_the_complex_recurrence_with_all_gradients(length) -> None:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    wide, narrow = (2, length, 5), (2, length, 6)
    given = [draw(*wide), draw(*wide), -draw(5, 3).exp(), 2 * draw(2, length, 3), draw(*narrow)]
    given += [draw(*narrow), draw(5), draw(*wide), draw(5), draw(2, 5, 6)]
    weights = draw(*wide), draw(2, 5, 6)
    found = []
    for scan in (rotating_scan, turning_one_by_one):
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        y, last = scan(*leaves)
        grads = torch.autograd.grad((y * weights[0]).sum() + (last * weights[1]).sum(), leaves)
        found.append({str(i): out.detach() for i, out in enumerate((y, last, *grads))})
    errors = relative_errors(*found)
    assert max(errors.values()) < 1e-12, errors
    assert all(tensor.abs().max() > 1e-3 for tensor in found[1].values())


def test_without_angles_it_is_the_scan_of_mamba() -> None:
    torch.manual_seed(0)
    x, dt, z = torch.randn(3, 2, 7, 5).unbind()
    B, C = torch.randn(2, 2, 7, 6).unbind()
    A, skip, bias = -torch.rand(5, 3), torch.randn(5), torch.randn(5)
    y, last = rotating_scan(x, dt, A, torch.zeros(2, 7, 3), B, C, skip, z, bias)
    expected = selective_scan(x, dt, torch.cat((A, A), 1), B, C, skip, z, bias)
    assert torch.equal(y, expected[0]) and torch.equal(last, expected[1])


def test_pairs_of_states_are_even_in_number() -> None:
    with pytest.raises(ValueError, match=r"^d_state must be even, for its states are pairs, got 3"):
        RotatingMambaMixer(8, d_state=3)


SMALL = {"num_heads": 3, "key_dim": 32, "value_dim": 32}


@pytest.mark.parametrize(
    ("d_model", "settings", "count"),
    [
        (64, {"mixer": "gated_delta", "gated_delta": SMALL}, 32_582),
        (64, {"mixer": "gated_delta", "gated_delta": {"num_heads": 1, "writes": 2}}, 30_530),
        (64, {"mixer": "rotating_mamba"}, 32_640),
        (64, {"mixer": "mamba"}, 32_640),
        (256, {"mixer": "gated_delta"}, 333_640),
        (256, {"mixer": "rotating_mamba"}, 437_760),
    ],
    ids=str,
)
def test_they_have_as_many_parameters_as_their_page_says(d_model, settings, count: int) -> None:
    model = GameModel(ModelSettings(28, d_model, **settings))
    assert sum(p.numel() for p in model.blocks.parameters()) == count


@pytest.mark.parametrize("mixer", ["gated_delta", "rotating_mamba"])
def test_a_watcher_sees_the_state_as_rows_of_a_matrix(mixer: str) -> None:
    own = {"gated_delta": {"num_heads": 3, "key_dim": 4, "value_dim": 5}}
    model = GameModel(ModelSettings(28, 8, mixer=mixer, **own))
    with MambaStateCapture(model) as capture:
        model(torch.randint(25, (2, 6)))
    expected = {"gated_delta": (2, 15, 4), "rotating_mamba": (2, 16, 16)}[mixer]
    assert [tuple(state.shape) for state in capture.states] == [expected]
    assert bool(capture.states[0].isfinite().all()) and bool(capture.states[0].any())
