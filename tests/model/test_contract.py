"""What a model is handed: another kind, place or value is refused, and named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tessera.model import MambaModel, ModelState

MIXERS = ("mamba", "mamba2")
TOKENS = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize("wrong", [-1, 84, 2**31, -(2**63)])
def test_a_token_outside_the_vocabulary_is_named_on_a_cpu(lively, wrong: int) -> None:
    model, tokens = lively(), TOKENS.clone()
    tokens[1, 1] = wrong
    state = model.init_state(2)
    before = state.map(torch.clone)
    is_new = torch.ones(2, dtype=torch.bool)
    calls = [lambda: model(tokens), lambda: model.prefill(tokens), lambda: model(tokens, tokens)]
    calls += [lambda: model.predict_next(tokens), lambda: model.step(tokens[:, 1], state)]
    calls += [lambda: model.step_in_place(tokens[:, 1], state, is_new)]
    for call in calls:
        with pytest.raises(ValueError, match=f"tokens must be 0 to 83, got {wrong}."):
            call()
    with pytest.raises(ValueError, match=f"targets must be 0 to 83, got {wrong}."):
        model(TOKENS, tokens)
    for own, other in zip(state.layers, before.layers, strict=True):
        assert torch.equal(own.ssm, other.ssm) and torch.equal(own.conv, other.conv)


@pytest.mark.parametrize("tokens", [[[0, 1]], None, TOKENS.bool(), TOKENS.float(), TOKENS.short()])
def test_what_are_no_tokens_is_refused(tokens: Any) -> None:
    model = MambaModel(84, 8)
    for run in (model, model.prefill, model.predict_next):
        with pytest.raises(ValueError, match=r"tokens must be \(batch, length\)"):
            run(tokens)
    with pytest.raises(ValueError, match=r"targets must be \(2, 3\) int64"):
        model(TOKENS, [[0] * 3] * 2)


def test_tensors_on_another_device_are_refused() -> None:
    model = MambaModel(84, 8)
    state, elsewhere = model.init_state(2), TOKENS.to("meta")
    is_new = torch.ones(2, dtype=torch.bool)
    for call in (
        lambda: model(elsewhere),
        lambda: model(TOKENS, elsewhere),
        lambda: model.prefill(elsewhere),
        lambda: model.step(elsewhere[:, 0], state),
        lambda: model.step(TOKENS[:, 0], model.init_state(2, "meta")),
        lambda: model.step_in_place(TOKENS[:, 0], state, is_new.to("meta")),
    ):
        with pytest.raises(ValueError, match="must be on cpu, got meta"):
            call()


def test_the_state_of_another_model_is_refused(lively, mixer: str) -> None:
    model = lively(n_layers=2)
    other_mixer = "mamba2" if mixer == "mamba" else "mamba"
    others = [lively(), lively(n_layers=3), MambaModel(84, 12, n_layers=2, mixer=mixer)]
    others += [MambaModel(84, 24, n_layers=2, mixer=other_mixer)]
    states: list[Any] = [other.init_state(2) for other in others]
    for state in (*states, ModelState(()), model.init_state(2).layers, 3):
        for call in (
            lambda state=state: model.step(TOKENS[:, 0], state),
            lambda state=state: model.prefill(TOKENS, state),
            lambda state=state: model.step_in_place(TOKENS[:, 0], state, torch.ones(2).bool()),
        ):
            with pytest.raises(ValueError, match="state must be"):
                call()


@pytest.mark.parametrize("mask", [torch.ones(1).bool(), torch.ones(2), torch.ones(2, 1).bool(), 1])
def test_a_mask_speaks_of_every_game(mask: Any) -> None:
    model = MambaModel(84, 8)
    state = model.init_state(2)
    with pytest.raises(ValueError, match=r"is_new must be \(2,\) bool"):
        model.step_in_place(TOKENS[:, 0], state, mask)
    if isinstance(mask, torch.Tensor):
        with pytest.raises(ValueError, match=r"mask must be \(2,\) bool"):
            state.reset(mask)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "2", True, None])
def test_a_state_is_of_a_whole_number_of_games(batch_size: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got"):
        MambaModel(84, 8).init_state(batch_size)


def test_states_of_more_games_than_there_is_memory_for_are_refused() -> None:
    with pytest.raises(MemoryError, match=r"batch_size \(=1000000000000\) games need [\d,]+ GiB"):
        MambaModel(84, 8).init_state(10**12)


@pytest.mark.parametrize("pad_token", [1.5, "82", True, 84, -1])
def test_a_pad_token_is_a_token(pad_token: Any) -> None:
    with pytest.raises(ValueError, match="pad_token must be 0 to 83, got"):
        MambaModel(84, 8, pad_token=pad_token)
