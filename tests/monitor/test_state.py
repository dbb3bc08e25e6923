"""The figures of the recurrent state are what their formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tessera.model import MambaModel, MambaStateCapture
from tessera.monitor import StateProbe


@pytest.fixture(params=["mamba", "mamba2"])
def model(request: pytest.FixtureRequest) -> MambaModel:
    torch.manual_seed(0)
    return MambaModel(vocab_size=28, d_model=8, d_state=4, n_layers=2, mixer=request.param)


def tokens(num_games: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 25, (num_games, 9), generator=generator)


def sample(probe: StateProbe, model: MambaModel, games: torch.Tensor) -> dict[str, float]:
    probe.begin()
    model(games)
    probe.end()
    return probe.read()


def states(model: MambaModel, games: torch.Tensor) -> list[torch.Tensor]:
    with MambaStateCapture(model) as capture, torch.no_grad():
        model(games)
    return [state.double() for state in capture.states]


def entropy(state: torch.Tensor) -> float:
    """Of one game, number by number."""
    squares = [float(x) ** 2 for x in state.flatten()]
    shares = [square / sum(squares) for square in squares]
    return -sum(share * math.log(share) for share in shares if share > 0)


def test_figures_agree_with_counting_number_by_number(model: MambaModel) -> None:
    probe, games = StateProbe(model), tokens(3, 1)
    found = sample(probe, model, games)
    by_layer = states(model, games)
    norms = [sum(float(game.norm()) for game in layer) / 3 for layer in by_layer]
    entropies = [sum(entropy(game) for game in layer) / 3 for layer in by_layer]
    assert found == pytest.approx(
        {
            "ssm_state_norm": max(norms),
            "ssm_state_entropy": min(entropies),
            "ssm_state_entropy_ratio": min(entropies) / math.log(16 * 4),
        },
        rel=1e-5,
    )
    assert norms[0] != norms[1]


def test_drift_is_the_change_of_the_mean_state_whatever_the_batch_sizes(model: MambaModel) -> None:
    probe = StateProbe(model)
    assert "ssm_state_delta_norm" not in sample(probe, model, tokens(3, 1))
    found = sample(probe, model, tokens(5, 2))["ssm_state_delta_norm"]
    before, after = states(model, tokens(3, 1)), states(model, tokens(5, 2))
    drifts = [
        float((new.mean(0) - old.mean(0)).norm()) for old, new in zip(before, after, strict=True)
    ]
    assert found == pytest.approx(max(drifts), rel=1e-4)
    assert sample(probe, model, tokens(5, 2))["ssm_state_delta_norm"] == 0


def test_of_a_large_batch_the_first_512_games_are_looked_at(model: MambaModel) -> None:
    games = tokens(520, 1)
    games[512:] = games[0]
    found = sample(StateProbe(model), model, games)
    assert found == sample(StateProbe(model), model, games[:512])
    norms = [float(layer.flatten(1).norm(dim=1).mean()) for layer in states(model, games)]
    assert found["ssm_state_norm"] != pytest.approx(max(norms), rel=1e-6)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_between_samples_nothing_is_hooked_and_no_state_is_held(model: MambaModel) -> None:
    probe = StateProbe(model)
    assert hooks(model) == 0 and probe.read() == {}
    probe.begin()
    assert hooks(model) == 1
    logits = model(tokens(3, 1))
    probe.end()
    assert hooks(model) == 0
    assert all(mean.shape == (16, 4) and not mean.requires_grad for mean in probe._means)
    assert len(probe.read()) == 3 and probe.read() == {}
    logits.sum().backward()  # the graph was left alone


def test_a_sample_without_a_run_measures_nothing(model: MambaModel) -> None:
    probe = StateProbe(model)
    probe.begin()
    probe.end()
    assert probe.read() == {}


def test_a_state_that_is_not_a_number_is_reported_as_such(model: MambaModel) -> None:
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    found = sample(StateProbe(model), model, tokens(2, 1))
    assert math.isnan(found["ssm_state_norm"]) and math.isnan(found["ssm_state_entropy"])


def test_an_empty_state_has_no_entropy(model: MambaModel) -> None:
    with torch.no_grad():
        model.embedding.weight.zero_()
        for mixer in model.mamba.mixers:
            mixer.conv1d.bias.zero_()
    found = sample(StateProbe(model), model, tokens(2, 1))
    assert found["ssm_state_norm"] == 0 and found["ssm_state_entropy"] == 0


def test_a_model_without_a_state_says_why_it_has_none() -> None:
    model = nn.Linear(3, 3)
    probe = StateProbe(model)
    probe.begin()
    model(torch.zeros(3))
    probe.end()
    assert probe.read() == {}
    line = "model must be or hold a GameModel, got Linear"
    assert probe.why_absent == dict.fromkeys(StateProbe.metrics, line)
