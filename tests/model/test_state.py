"""The carried state and its capture by hooks."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import nn

from tessera.model import GameModel, MambaModel, MambaStateCapture, ModelSettings
from tessera.model import state as state_module

MIXERS = ("mamba", "mamba2")  # what a lively model has in the tests below


def random_tokens(games: int, length: int) -> torch.Tensor:
    return torch.randint(0, 82, (games, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("n_layers", [1, 3])
@torch.no_grad()
def test_the_captured_state_is_the_one_that_stepping_reaches(lively, n_layers: int) -> None:
    model, tokens = lively(n_layers=n_layers), random_tokens(3, 50)
    state = model.init_state(3)
    for ply in range(50):
        _, state = model.step(tokens[:, ply], state)
    with MambaStateCapture(model) as capture:
        model(tokens)
    assert len(capture.states) == n_layers
    for own, layer in zip(capture.states, state.layers, strict=True):
        torch.testing.assert_close(own, layer.ssm, rtol=0, atol=1e-4)
        assert own.abs().max() > 0.1


def test_a_capture_holds_no_graph_and_float32_under_autocast(lively) -> None:
    model = lively()
    with MambaStateCapture(model) as capture, torch.autocast("cpu", torch.bfloat16):
        model(random_tokens(2, 4))
    (state,) = capture.states
    assert state.dtype == torch.float32 and not state.requires_grad and state.grad_fn is None


def test_a_disabled_capture_lets_runs_pass(lively) -> None:
    model = lively()
    with MambaStateCapture(model) as capture:
        assert capture.states == []
        capture.enabled = False
        model(random_tokens(2, 4))
        assert capture.states == []
        capture.enabled = True
        model(random_tokens(2, 4))
        first = capture.states[0]
        capture.enabled = False
        model(random_tokens(3, 4))
        assert capture.states[0] is first


def test_a_removed_capture_sees_nothing_more(lively) -> None:
    model = lively()
    capture = MambaStateCapture(model)
    model(random_tokens(2, 4))
    before = capture.states[0]
    capture.remove()
    capture.remove()
    model(random_tokens(2, 5))
    assert capture.states[0] is before
    with MambaStateCapture(model) as inner:
        pass
    model(random_tokens(2, 5))
    assert inner.states == []


@torch.no_grad()
def test_a_capture_sees_prefill_step_and_the_window(lively) -> None:
    model, tokens = lively(), random_tokens(2, 6)
    with MambaStateCapture(model) as capture:
        _, state = model.prefill(tokens)
        assert torch.equal(capture.states[0], state.layers[0].ssm)
        _, state = model.step(tokens[:, 0], state)
        assert torch.equal(capture.states[0], state.layers[0].ssm)
        model.predict_next(tokens[:1])
        assert len(capture.states[0]) == 1
        state = model.init_state(2)
        model.step_in_place(tokens[:, 0], state, torch.zeros(2, dtype=torch.bool))
        assert torch.equal(capture.states[0], state.layers[0].ssm)
        assert capture.states[0].any()


def test_a_capture_needs_a_mixer_that_shows_its_state() -> None:
    with pytest.raises(ValueError, match="model must be or hold a GameModel, got Linear"):
        MambaStateCapture(nn.Linear(2, 2))
    model = GameModel(ModelSettings(84, 8, mixer="attention"))
    with pytest.raises(ValueError, match="none of the model's mixers shows a recurrent state"):
        MambaStateCapture(model)


@torch.no_grad()
def test_reset_games_start_anew_and_the_others_go_on(lively) -> None:
    model, tokens = lively(n_layers=2), random_tokens(3, 5)
    _, state = model.prefill(tokens)
    reset = state.reset(torch.tensor([False, True, False]))
    logits, _ = model.step(torch.tensor([7, 7, 7]), reset)
    carried, _ = model.step(torch.tensor([7, 7, 7]), state)
    fresh, _ = model.step(torch.tensor([7]), model.init_state(1))
    torch.testing.assert_close(logits[1], fresh[0])
    torch.testing.assert_close(logits[[0, 2]], carried[[0, 2]])
    assert not torch.allclose(carried[1], fresh[0], atol=1e-3)


@torch.no_grad()
def test_selected_games_go_on_alone(lively) -> None:
    model, tokens = lively(n_layers=2), random_tokens(3, 5)
    _, state = model.prefill(tokens)
    logits, _ = model.step(torch.tensor([7, 8, 9]), state)
    picked = state.select(torch.tensor([2, 0, 2]))
    assert picked.batch_size == 3
    torch.testing.assert_close(model.step(torch.tensor([9, 7, 9]), picked)[0], logits[[2, 0, 2]])
    kept = state.select(torch.tensor([False, True, True]))
    assert kept.batch_size == 2
    torch.testing.assert_close(model.step(torch.tensor([8, 9]), kept)[0], logits[1:])


def test_bytes_per_game_counts_every_layer_and_does_not_grow() -> None:
    model = MambaModel(84, 16, d_state=8, n_layers=2)
    state = model.init_state(5)
    expected = 2 * 4 * (3 * 32 + 32 * 8)
    assert state.bytes_per_game == expected
    with torch.no_grad():
        _, state = model.prefill(random_tokens(5, 30), state)
    assert state.bytes_per_game == expected


def test_map_reaches_every_tensor(lively) -> None:
    state = lively(n_layers=2).init_state(2).map(lambda tensor: tensor + 1)
    assert all((t == 1).all() for layer in state.layers for t in (layer.conv, layer.ssm))


def test_examples_in_the_docstrings_run() -> None:
    results = doctest.testmod(state_module)
    assert results.attempted and not results.failed
