"""The adaptive-rank state space against its formula, its gates, its warm-up and its noise."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.model import GameModel, ModelSettings
from tessera.model.mixers.adaptive_rank import AdaptiveRankMixer, AdaptiveRankSettings
from tessera.model.mixers.noise import logistic_noise

D_MODEL = 12


def mixer_of(**settings: object) -> AdaptiveRankMixer:
    torch.manual_seed(1)
    mixer = AdaptiveRankMixer(D_MODEL, **{"max_rank": 6, "min_rank": 2, **settings})
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return mixer


def naive(mixer: AdaptiveRankMixer, moves: torch.Tensor) -> torch.Tensor:
    """The mixed vectors (L, H) of one game, move by move."""
    total = torch.zeros(mixer.max_rank)
    mixed = torch.zeros_like(moves)
    for at, x in enumerate(moves):
        gate = torch.sigmoid(mixer.gate_out(torch.relu(mixer.gate_in(x))))
        if mixer.gate == "straight_through":
            gate = (gate >= 0.5).float()
        total = total + gate * (mixer.u_proj.weight @ x)
        memory = total / (at + 1) if mixer.average else total
        mixed[at] = mixer.out_proj(memory * gate * (mixer.v_proj.weight @ x))
        for back in range(min(at, 2) + 1):
            mixed[at] += mixer.taps[:, 2 - back] * moves[at - back]
    return mixed


@pytest.mark.parametrize("gate", ["soft", "straight_through", "gumbel"])
@pytest.mark.parametrize("average", [True, False])
@torch.no_grad()
def test_it_is_its_formula(gate: str, average: bool) -> None:
    mixer = mixer_of(gate=gate, average=average)
    hidden = torch.randn(2, 9, D_MODEL)
    expected = torch.stack([naive(mixer, moves) for moves in hidden])
    torch.testing.assert_close(mixer(hidden), expected)
    # After moves, and behind PAD.
    is_pad = torch.zeros(2, 12, dtype=torch.bool)
    is_pad[0, 9:], is_pad[1, :3] = True, True
    rows = torch.zeros(2, 12, D_MODEL)
    rows[0, :9], rows[1, 3:] = hidden[0], hidden[1]
    mixed = mixer(rows, is_pad)
    torch.testing.assert_close(mixed[0, :9], expected[0])
    torch.testing.assert_close(mixed[1, 3:], expected[1])


def test_six_layers_have_the_published_number_of_parameters() -> None:
    settings = AdaptiveRankSettings(max_rank=8, min_rank=2)
    found = sum(parameter.numel() for parameter in settings.build(512).parameters())
    assert found == settings.num_parameters(512) == 81_032
    assert 6 * found == 486_192
    # 82 of 100 of them only make the gates.
    mixer = settings.build(512)
    gates = [*mixer.gate_in.parameters(), *mixer.gate_out.parameters()]
    assert sum(parameter.numel() for parameter in gates) / found == pytest.approx(0.82, abs=0.005)


def test_straight_through_gates_are_zero_or_one_with_the_soft_gradient() -> None:
    hidden = torch.randn(4, D_MODEL)
    found = []
    for gate in ("straight_through", "soft"):
        mixer = mixer_of(gate=gate)
        gates = mixer.gates(hidden)
        gates.sum().backward()
        found.append((gates.detach(), mixer.gate_in.weight.grad))
    (hard, own), (soft, expected) = found
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hard, (soft >= 0.5).float())
    assert torch.equal(own, expected)


def test_the_sums_are_float32_whatever_the_products_are() -> None:
    mixer = mixer_of(average=False)
    hidden = torch.full((1, 2_000, D_MODEL), 0.1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, after = mixer.advance(hidden)
        one = mixer.gates(hidden[0, 0]) * mixer.u_proj(hidden[0, 0])
    # In bfloat16 a sum stops growing once its terms are a 256th of it.
    assert after.sums.dtype == torch.float32
    torch.testing.assert_close(after.sums[0], 2_000 * one, rtol=1e-4, atol=0)


@torch.no_grad()
def test_a_mean_stays_as_large_as_it_is_and_a_sum_grows() -> None:
    hidden = torch.randn(1, D_MODEL).expand(1, 600, D_MODEL)
    for average, growth in ((True, 1), (False, 6)):
        mixer = mixer_of(average=average)
        mixer.taps.zero_()
        mixer.out_proj.bias.zero_()
        mixed = mixer(hidden)[0]
        assert float(mixed[599].norm() / mixed[99].norm()) == pytest.approx(growth, rel=1e-3)


def test_ranks_open_with_the_steps_and_stay_so() -> None:
    mixer = mixer_of(max_rank=6, min_rank=2, warmup_steps=100)
    ranks = [mixer.rank_at(step) for step in (0, 24, 25, 50, 99, 100, 10_000)]
    assert ranks == [2, 2, 3, 4, 5, 6, 6]
    hidden = torch.randn(3, D_MODEL)
    assert (mixer.gates(hidden) > 0).all()  # whoever was never told has all of them
    mixer.at_step(50, 0)
    gates = mixer.gates(hidden)
    assert (gates[:, :4] > 0).all()
    assert not gates[:, 4:].any()
    other = mixer_of(max_rank=6, min_rank=2, warmup_steps=100)
    other.load_state_dict(mixer.state_dict())
    assert torch.equal(other.gates(hidden), gates)
    mixer.at_step(100, 0)
    assert (mixer.gates(hidden) > 0).all()
    assert mixer_of(warmup_steps=0).rank_at(0) == 6


def test_noise_is_logistic_and_moves_no_generator() -> None:
    before = torch.get_rng_state()
    noise = logistic_noise(torch.tensor(7), (40, 50, 32))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noise, logistic_noise(torch.tensor(7), (40, 50, 32)))
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 3, rel=0.02)
    for quantile in (0.01, 0.25, 0.5, 0.9):
        expected = math.log(quantile / (1 - quantile))
        assert float((noise < expected).float().mean()) == pytest.approx(quantile, abs=0.006)
    # No axis, and no seed, repeats another one.
    others = (noise.roll(1, 0), noise.roll(1, 1), noise.roll(1, 2))
    others += (logistic_noise(torch.tensor(8), (40, 50, 32)),)
    for other in others:
        both = torch.stack([noise.flatten(), other.flatten()])
        assert abs(float(both.corrcoef()[0, 1])) < 0.02
    assert noise.isfinite().all()


def test_only_a_training_that_tells_its_steps_has_noise() -> None:
    mixer = mixer_of(gate="gumbel")
    hidden = torch.randn(2, 5, D_MODEL)
    quiet = mixer(hidden)
    mixer.at_step(2_000, 0)
    noisy = mixer(hidden)
    assert not torch.allclose(noisy, quiet)
    assert torch.equal(mixer(hidden), noisy)
    for step, layer in ((2_001, 0), (2_000, 1)):
        mixer.at_step(step, layer)
        assert not torch.allclose(mixer(hidden), noisy)
    # The future, changed, changes nothing before it.
    mixer.at_step(2_000, 0)
    changed = torch.cat([hidden[:, :3], torch.randn(2, 2, D_MODEL)], 1)
    assert torch.equal(mixer(changed)[:, :3], noisy[:, :3])
    mixer.eval()
    assert torch.equal(mixer(hidden), quiet)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"max_rank": 0}, "max_rank must be a whole number of at least 1, got 0."),
        ({"min_rank": 7}, "min_rank must be at most max_rank, 6, got 7."),
        ({"gate": "hard"}, "gate must be one of soft, straight_through, gumbel, got hard."),
        ({"temperature": 0}, "temperature must be more than 0, got 0."),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1."),
        ({"penalty": -0.1}, "penalty must be at least 0, got -0.1."),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, line: str) -> None:
    with pytest.raises(ValueError) as error:
        mixer_of(**settings)
    assert str(error.value) == line


SETTINGS = ModelSettings(
    84, 16, n_layers=2, mixer=["adaptive_rank", "mamba"], adaptive_rank={"max_rank": 4}
)
ALL = ModelSettings(
    84, 16, n_layers=3, mixer="adaptive_rank", adaptive_rank={"max_rank": 4, "penalty": 0.5}
)


@pytest.mark.parametrize("settings", [SETTINGS, ALL], ids=["with mamba", "alone"])
def test_a_model_gives_the_mean_effective_rank_of_its_layers_and_what_it_costs(
    settings: ModelSettings,
) -> None:
    torch.manual_seed(0)
    model = GameModel(settings)
    assert model.blocks.penalty_names == ("effective_rank", "penalty")
    tokens, targets = torch.randint(0, 81, (2, 2, 7))
    targets[1, 4:] = model.pad_token
    shown: list[torch.Tensor] = []
    for layer in range(settings.n_layers):
        mixer = model.blocks.mixer(layer)
        if isinstance(mixer, AdaptiveRankMixer):
            mixer.gate_out.register_forward_hook(lambda *args: shown.append(args[-1].sigmoid()))
    losses, ranks, costs = model(tokens, targets, penalized=True)
    expected = torch.stack(shown).sum(-1).mean(0)
    expected[1, 4:] = 0
    torch.testing.assert_close(ranks, expected)
    torch.testing.assert_close(costs, settings.adaptive_rank.penalty / 4 * ranks)
    assert torch.equal(model(tokens, targets), losses)
    other = GameModel(ModelSettings(84, 16))
    assert other.blocks.penalty_names == ()


def test_penalties_of_activations_computed_again_have_the_same_gradients() -> None:
    tokens, targets = torch.randint(0, 81, (2, 2, 7))
    found = []
    for saves in (False, True):
        torch.manual_seed(0)
        settings = ModelSettings(**{**ALL.as_dict(), "checkpoint_activations": saves})
        model = GameModel(settings)
        model(tokens, targets, penalized=True)[2].sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.gpu
def test_a_replayed_step_has_the_ranks_and_the_noise_of_its_own_step() -> None:
    ranks = {"max_rank": 8, "min_rank": 2, "gate": "gumbel", "warmup_steps": 100}
    settings = ModelSettings(84, 32, n_layers=2, mixer="adaptive_rank", adaptive_rank=ranks)
    tokens, targets = torch.randint(0, 81, (2, 4, 32), generator=torch.Generator().manual_seed(1))
    targets[1, 20:] = 82
    found = []
    for is_graphed in (False, True):
        torch.manual_seed(0)
        model = GameModel(settings).cuda().train()
        if is_graphed:
            model.graph_training()
        for step in (0, 50, 51, 100):
            model.zero_grad()
            model.blocks.at_step(step)
            losses = model(tokens.cuda(), targets.cuda(), penalized=True)
            losses[::2].sum().backward()
            found.append([losses.detach(), *(p.grad.clone() for p in model.parameters())])
    for plain, replayed in zip(found[:4], found[4:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True))
    assert not torch.equal(found[5][0], found[6][0])
