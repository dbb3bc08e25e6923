"""The gated delta rule's scan: chunks against the recurrence, precision, and what it can track."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tessera.model.mixers.gated_delta import GatedDeltaMixer
from tessera.model.scans.delta import (
    DeltaScan,
    chunked_delta_rule,
    delta_rule,
    delta_step_in_place,
    unit_triangular_inverse,
)
from tests.model.delta_cases import arguments, results
from tests.model.dual_cases import relative_errors

LENGTHS = pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 65, 100])
STATES = pytest.mark.parametrize("with_state", [False, True], ids=["new", "carried"])


@LENGTHS
@STATES
def test_chunks_are_the_recurrence_with_all_gradients(length: int, with_state: bool) -> None:
    given = arguments(length, with_state)
    expected = results(delta_rule, given)
    errors = relative_errors(results(chunked_delta_rule, given), expected)
    # The first α of a new game fades nothing, and has no gradient.
    assert max(errors.values()) < 1e-12, errors
    single = [tensor.float() for tensor in given]
    errors = relative_errors(results(chunked_delta_rule, single), expected)
    assert max(errors.values()) < 1e-4, errors
    felt = ("o", "last", "q", "k", "v", "beta") + (("fade",) if length > 1 or with_state else ())
    assert all(expected[name].abs().max() > 1e-3 for name in felt)


@STATES
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_size_of_a_chunk_changes_nothing(chunk: int, with_state: bool) -> None:
    given = arguments(30, with_state)
    found = results(lambda *a: chunked_delta_rule(*a, *[None] * (6 - len(a)), chunk), given)
    errors = relative_errors(found, results(delta_rule, given))
    assert max(errors.values()) < 1e-12, errors


def test_the_recurrence_is_a_product_of_scaled_householder_matrices() -> None:
    q, k, v, fade, beta, state = arguments(9, with_state=True, games=1, heads=1)
    o, last = delta_rule(q, k, v, fade, beta, state)
    q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    now = state[0, 0]
    for t in range(9):
        key, identity = k[0, t, 0], torch.eye(6, dtype=torch.float64)
        reflection = identity - beta[0, t, 0] * torch.outer(key, key)
        now = fade[0, t, 0].exp() * now @ reflection + beta[0, t, 0] * torch.outer(v[0, t, 0], key)
        torch.testing.assert_close(o[0, t, 0], now @ q[0, t, 0])
    torch.testing.assert_close(last[0, 0], now)


@pytest.mark.parametrize("rule", [delta_rule, chunked_delta_rule])
def test_without_writing_and_fading_the_state_stays_to_the_bit(rule) -> None:
    q, k, v, fade, beta, state = (x.float() for x in arguments(40, with_state=True))
    last = rule(q, k, v, torch.zeros_like(fade), torch.zeros_like(beta), state)[1]
    assert torch.equal(last, state)


def test_extreme_fades_leave_finite_gradients() -> None:
    given = [tensor.float() for tensor in arguments(70, with_state=True)]
    given[3] = given[3] * 1e4
    found = results(chunked_delta_rule, given)
    assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize("rule", [delta_rule, chunked_delta_rule])
def test_autocast_and_narrow_inputs_leave_the_state_in_float32(rule) -> None:
    q, k, v, fade, beta = (x.float() for x in arguments(40, with_state=False))
    expected = rule(q, k, v.bfloat16().float(), fade, beta)[1]
    with torch.autocast("cpu", torch.bfloat16):
        o, last = rule(q, k, v.bfloat16(), fade, beta)
    assert o.dtype == torch.bfloat16
    assert torch.equal(last, expected)


def test_the_inverse_keeps_its_digits_where_all_keys_are_one_and_every_write_turns() -> None:
    # Its powers reach 2^31 times a binomial coefficient, its inverse 2.
    strict = 2 * torch.ones(32, 32).tril(-1).unsqueeze(0)
    expected = torch.linalg.inv(torch.eye(32, dtype=torch.float64) + strict.double())
    torch.testing.assert_close(
        unit_triangular_inverse(strict).double(), expected, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("writes", [1, 3])
def test_a_step_in_place_is_the_scan_of_as_many_positions_as_keys(writes: int) -> None:
    q, k, v, fade, beta, state = (x.float() for x in arguments(writes, with_state=True))
    fade[:, 1:] = 0
    is_new = torch.tensor([True, False])
    expected, last = delta_rule(
        q, k, v, fade, beta, state.masked_fill(is_new[:, None, None, None], 0)
    )
    state[0] = torch.inf
    o = delta_step_in_place(q[:, -1], k, v, fade[:, 0], beta, state, is_new)
    torch.testing.assert_close(o, expected[:, -1])
    torch.testing.assert_close(state, last)


def swaps(length: int) -> torch.Tensor:
    """Pairs of three places, (length, 2)."""
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2]])
    return pairs[torch.randint(3, (length,), generator=torch.Generator().manual_seed(5))]


@pytest.mark.parametrize("rule", [delta_rule, chunked_delta_rule])
def test_reflections_permute_three_things_however_often_they_are_swapped(rule) -> None:
    pairs, things = swaps(200), torch.tensor([1.0, 2.0, 3.0])
    keys, places = torch.zeros(200, 3), [0, 1, 2]
    for key, (one, other) in zip(keys, pairs.tolist(), strict=True):
        key[one], key[other] = 0.5**0.5, -(0.5**0.5)
        places[one], places[other] = places[other], places[one]
    k = keys.view(1, 200, 1, 3)
    nothing, never = torch.zeros(1, 200, 1, 1), torch.zeros(1, 200, 1)
    turning, state = never + 2, things.view(1, 1, 1, 3)
    last = rule(k, k, nothing, never, turning, state)[1]
    torch.testing.assert_close(last[0, 0, 0], things[places], atol=1e-3, rtol=0)
    # Without negative eigenvalues the most that two things can become by being swapped is equal.
    last = rule(k, k, nothing, never, turning / 2, state)[1]
    assert float(last.max() - last.min()) < 1e-3


def test_what_asks_for_a_kernel_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="scan must be auto, triton, torch, got 'mamba_ssm'"):
        DeltaScan("mamba_ssm")


@torch.no_grad()
@pytest.mark.parametrize("writes", [1, 3])
def test_the_mixer_is_the_rule_as_it_is_written(writes: int) -> None:
    torch.manual_seed(0)
    heads, key, value, length = 2, 3, 4, 5
    mixer = GatedDeltaMixer(8, heads, key, value, d_conv=2, writes=writes).double()
    mixer.norm_weight.copy_(torch.randn(value))
    hidden = torch.randn(length, 8).double()
    conv = heads * (key + writes * (key + value))
    z, x, fade, beta = mixer.in_proj(hidden).split([heads * value, conv, heads, writes * heads], 1)
    before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
    taps = mixer.conv1d.weight[:, 0].unbind(1)
    q, k, v = F.silu(before * taps[0] + x * taps[1] + mixer.conv1d.bias).split(
        [heads * key, writes * heads * key, writes * heads * value], 1
    )
    q, k = F.normalize(q.view(length, heads, key), dim=-1), k.view(length, writes, heads, key)
    k, v = F.normalize(k, dim=-1), v.view(length, writes, heads, value)
    left = (-mixer.A_log.exp() * F.softplus(fade + mixer.dt_bias)).exp()
    beta = 2 * beta.view(length, writes, heads).sigmoid()
    said = torch.zeros(length, heads, value).double()
    for head in range(heads):
        state = torch.zeros(value, key).double()
        for at in range(length):
            state *= left[at, head]
            for nth in range(writes):
                new = v[at, nth, head] - state @ k[at, nth, head]
                state += beta[at, nth, head] * torch.outer(new, k[at, nth, head])
            said[at, head] = state @ q[at, head]
    said = F.rms_norm(said, (value,), mixer.norm_weight, 1e-5).flatten(1) * F.silu(z)
    # Lengths have a small number added, so that zero has one.
    torch.testing.assert_close(mixer(hidden[None])[0], mixer.out_proj(said), rtol=1e-3, atol=1e-5)
