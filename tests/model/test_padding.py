"""PAD is invisible: to logits, to the state, to training, wherever it stands."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tessera.model import MambaModel, MambaStateCapture, ModelState
from tessera.model.mixers.state_space import StateSpaceState

MIXERS = ("mamba", "mamba2")  # what a lively model has in the tests below
LAYERS = pytest.mark.parametrize("n_layers", [1, 3])


def random_tokens(games: int, length: int) -> torch.Tensor:
    return torch.randint(0, 82, (games, length), generator=torch.Generator().manual_seed(2))


def assert_same_state(actual: ModelState, expected: ModelState) -> None:
    assert len(actual.layers) == len(expected.layers)
    for own, other in zip(actual.layers, expected.layers, strict=True):
        torch.testing.assert_close(own.conv, other.conv, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.ssm, other.ssm, rtol=0, atol=1e-5)
        assert other.ssm.abs().max() > 0.1


@LAYERS
@pytest.mark.parametrize("length", [1, 2, 5, 20])
@torch.no_grad()
def test_padding_on_either_side_changes_no_logit(lively, n_layers: int, length: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(2, length)
    expected = model(tokens)
    left = model(F.pad(tokens, (7, 0), value=model.pad_token))
    right = model(F.pad(tokens, (0, 7), value=model.pad_token))
    torch.testing.assert_close(left[:, 7:], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(right[:, :length], expected, rtol=0, atol=1e-5)
    bias = model.head.bias.expand(2, 7, -1)
    torch.testing.assert_close(left[:, :7], bias)
    torch.testing.assert_close(right[:, length:], bias)


@LAYERS
@pytest.mark.parametrize("length", [1, 2, 5, 20])
@torch.no_grad()
def test_padding_on_either_side_changes_no_state(lively, n_layers: int, length: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(2, length)
    _, expected = model.prefill(tokens)
    with MambaStateCapture(model) as capture:
        for padding in ((7, 0), (0, 7)):
            padded = F.pad(tokens, padding, value=model.pad_token)
            assert_same_state(model.prefill(padded)[1], expected)
            model(padded)
            for own, layer in zip(capture.states, expected.layers, strict=True):
                torch.testing.assert_close(own, layer.ssm, rtol=0, atol=1e-5)


@LAYERS
@torch.no_grad()
def test_games_of_different_lengths_go_on_from_one_prefill(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(3, 12)
    padded = tokens.clone()
    for game, length in enumerate((1, 4, 10)):
        padded[game, length:] = model.pad_token
    _, state = model.prefill(padded)
    logits, _ = model.step(torch.tensor([5, 6, 7]), state)
    for game, length in enumerate((1, 4, 10)):
        alone = torch.cat((tokens[game, :length], torch.tensor([5 + game])))[None]
        torch.testing.assert_close(logits[game], model(alone)[0, -1], rtol=0, atol=1e-4)


@LAYERS
@torch.no_grad()
def test_a_prefill_that_goes_on_ignores_padding_anywhere(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(2, 10)
    whole, end = model.prefill(tokens)
    _, state = model.prefill(tokens[:, :4])
    gaps = torch.full((2, 13), model.pad_token)
    places = torch.tensor([[2, 3, 5, 9, 11, 12], [0, 1, 4, 5, 6, 7]])
    gaps.scatter_(1, places, tokens[:, 4:])
    logits, state = model.prefill(gaps, state)
    index = places[..., None].expand(-1, -1, 84)
    torch.testing.assert_close(logits.gather(1, index), whole[:, 4:], rtol=0, atol=1e-4)
    assert_same_state(state, end)


@LAYERS
@torch.no_grad()
def test_a_step_with_pad_freezes_that_game_alone(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(3, 8)
    _, before = model.prefill(tokens)
    _, after = model.step(torch.tensor([1, model.pad_token, 2]), before)
    for old, new in zip(before.layers, after.layers, strict=True):
        assert torch.equal(old.conv[1], new.conv[1]) and torch.equal(old.ssm[1], new.ssm[1])
        for game in (0, 2):
            assert not torch.equal(old.conv[game], new.conv[game])
            assert not torch.equal(old.ssm[game], new.ssm[game])


@torch.no_grad()
def test_a_row_of_padding_is_a_game_that_has_not_begun(lively) -> None:
    model = lively(n_layers=3)
    logits, state = model.prefill(torch.full((2, 6), model.pad_token))
    torch.testing.assert_close(logits, model.head.bias.expand(2, 6, -1))
    for own, fresh in zip(state.layers, model.init_state(2).layers, strict=True):
        assert torch.equal(own.conv, fresh.conv) and torch.equal(own.ssm, fresh.ssm)


@LAYERS
def test_padding_stays_invisible_after_training_with_weight_decay(n_layers: int) -> None:
    torch.manual_seed(0)
    model, tokens = MambaModel(84, 16, n_layers=n_layers), random_tokens(4, 10)
    padded = F.pad(tokens, (3, 0), value=model.pad_token)
    padded[:2] = F.pad(tokens[:2], (0, 3), value=model.pad_token)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(10):
        targets = padded.roll(-1, 1).flatten()
        loss = F.cross_entropy(model(padded).flatten(0, 1), targets, ignore_index=model.pad_token)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        expected, actual = model(tokens), model(padded)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual[:2, :10], expected[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(actual[2:, 3:], expected[2:], rtol=0, atol=1e-5)


@LAYERS
def test_padding_changes_no_gradient(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(2, 9)

    def gradients(rows: torch.Tensor, moves: slice) -> list[torch.Tensor]:
        model.zero_grad()
        logits = model(rows)[:, moves]
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients(tokens, slice(None))
    for padding, moves in (((4, 0), slice(4, None)), ((0, 4), slice(0, 9))):
        actual = gradients(F.pad(tokens, padding, value=model.pad_token), moves)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_layer_states_hold_the_last_inputs_oldest_first(lively, mixer: str) -> None:
    model, tokens = lively(), random_tokens(1, 6)
    with torch.no_grad():
        _, state = model.prefill(tokens)
        # Of Mamba-2 the gate comes first, and the step sizes last.
        first = 0 if mixer == "mamba" else model.mamba.d_inner
        inputs = model.mamba.in_proj(model.embedding(tokens))[..., first:]
        inputs = inputs[..., : model.mamba.conv1d.in_channels]
    assert isinstance(state.layers[0], StateSpaceState)
    torch.testing.assert_close(state.layers[0].conv, inputs[:, -3:])
