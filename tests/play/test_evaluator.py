"""What a search asks: models that know positions, and playouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tessera.go import GPUGoEngine, Rules, play_out
from tessera.go.features import board_rows
from tessera.model import GameModel, ModelSettings
from tessera.play.evaluator import ModelEvaluator, PlayoutEvaluator, last_tokens, worth
from tessera.setting_errors import SettingError
from tessera.vocabulary import num_tokens

FITTING: dict[str, Any] = {
    "mixer": "identity",
    "features": "board",
    "head": "points",
    "outcome": "win_and_score",
    "board": {"channels": 6, "depth": 1},
}


def new_model(size: int = 5, **changed: Any) -> GameModel:
    torch.manual_seed(1)
    model = GameModel(ModelSettings(num_tokens(size), 16, **{**FITTING, **changed}))
    with torch.no_grad():
        for weight in model.parameters():  # a new outcome expects nothing
            weight += 0.2 * torch.randn_like(weight)
    return model.eval()


def a_few_plies(size: int = 5) -> GPUGoEngine:
    engine = GPUGoEngine(3, "cpu", size, Rules(komi=0.5))
    for moves in ([3, 7, size**2], [8, 2, 4], [9, 1, size**2]):
        engine.play_batch(torch.tensor(moves))
    engine.reset(torch.tensor([False, True, False]))
    return engine


def test_a_model_says_of_a_position_what_it_says_of_the_game() -> None:
    model, engine = new_model(), a_few_plies()
    found = ModelEvaluator(model).evaluate(engine)
    tokens = torch.tensor([9, engine.vocabulary.eos_token, 25])
    assert torch.equal(last_tokens(engine), tokens)
    state = model.init_state(3)
    rows = board_rows(engine)
    logits = model.step_in_place(tokens, state, torch.zeros(3, dtype=torch.bool), (rows,))
    assert torch.equal(found.logits, logits[:, :26])
    _, outcome = model.outlook(tokens[:, None], (rows[:, None],))
    assert torch.equal(found.value, 2 * outcome.win[:, 0] - 1)
    assert found.value.abs().max() > 0.05 and not found.value.requires_grad

    mixed = ModelEvaluator(model, score_weight=0.25).evaluate(engine)
    expected = 0.75 * (2 * outcome.win[:, 0] - 1) + 0.25 * (outcome.score[:, 0] / 5).tanh()
    assert torch.allclose(mixed.value, expected)
    rounded = ModelEvaluator(model, torch.bfloat16).evaluate(engine)
    assert rounded.logits.dtype == rounded.value.dtype == torch.float32
    assert torch.allclose(rounded.logits, found.logits, atol=0.3)
    assert not torch.equal(rounded.logits, found.logits)


def test_the_weights_are_read_where_they_are() -> None:
    model, engine = new_model(), a_few_plies()
    evaluator = ModelEvaluator(model)
    before, places = evaluator.evaluate(engine), evaluator.places()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1.5
    assert not torch.equal(evaluator.evaluate(engine).value, before.value)
    assert evaluator.places() == places
    model.head.points.weight.data = model.head.points.weight.data.clone()
    assert evaluator.places() != places


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"outcome": "none"}, "outcome must be win_and_score, for a search, got none."),
        (
            {"mixer": "mamba"},
            "mixer must be identity, for a search, which meets positions in no order, got mamba.",
        ),
        (
            {"n_layers": 2, "mixer": ["identity", "attention"]},
            "mixer must be identity, for a search, which meets positions in no order, "
            "got identity, attention.",
        ),
        (
            {"features": "landmarks", "head": "linear"},
            "features must be board, for a search, which remembers no moves, got landmarks.",
        ),
        (
            {"features": "none", "head": "linear"},
            "features must be board, for a search, which remembers no moves, got none.",
        ),
    ],
)
def test_a_model_that_knows_no_position_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as error:
        ModelEvaluator(new_model(**changed))
    assert str(error.value) == message


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingError) as error:
        ModelEvaluator(new_model(mixer="mamba", outcome="none"))
    assert len(str(error.value).splitlines()) == 2
    for settings, message in (
        ({"dtype": torch.float16}, "dtype must be one of float32, bfloat16, got float16."),
        ({"score_weight": 1.5}, "score_weight must be 0 to 1, got 1.5."),
    ):
        with pytest.raises(SettingError) as error:
            ModelEvaluator(new_model(), **settings)
        assert str(error.value) == message


def test_a_model_of_another_board_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        ModelEvaluator(new_model(5)).evaluate(GPUGoEngine(1, "cpu", 3))
    assert str(error.value) == "board_size must be 5, the model's, got 3."


def test_playouts_value_a_position_by_its_ends() -> None:
    engine = a_few_plies()
    found = PlayoutEvaluator(8, "uniform", seed=3).evaluate(engine)
    numbers = torch.zeros(3, dtype=torch.int64)
    played = play_out(engine, 8, player="uniform", seed=3, numbers=numbers)
    of_black = (2 * played.win_rates - 1).float()
    assert engine.turn.tolist() == [1, 0, 1]
    assert torch.equal(found.value, of_black * torch.tensor([-1.0, 1.0, -1.0]))
    assert not found.logits.any() and found.logits.shape == (3, 26)
    lead = played.scores * torch.tensor([-1.0, 1.0, -1.0])
    mixed = PlayoutEvaluator(8, "uniform", seed=3, score_weight=0.5).evaluate(engine).value
    assert torch.allclose(mixed, (found.value + (lead / 5).tanh().float()) / 2)
    # A position is worth the same wherever it stands.
    engine.branch(torch.tensor([0]), torch.tensor([2]))
    again = PlayoutEvaluator(8, "uniform", seed=3).evaluate(engine).value
    assert again[2] == again[0] == found.value[0]
    with pytest.raises(SettingError, match="num_games must be at least 1, got 0"):
        PlayoutEvaluator(0)


def test_a_score_is_worth_less_and_less() -> None:
    results, scores = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([0.5, -30.0, 30.0])
    assert torch.equal(worth(results, scores, 5, 0.0), results)
    mixed = worth(results, scores, 5, 0.5)
    assert 0.5 < mixed[0] < 0.6 and mixed[1] == pytest.approx(-1, abs=1e-3)
    assert mixed[2] == -mixed[1]
