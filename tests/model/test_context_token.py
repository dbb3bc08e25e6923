"""Contexts swept in parallel and one after the other, the wirings, and the published counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings
from tessera.model.mixers.context_token import ContextTokenMixer, ContextTokenSettings
from tessera.setting_errors import SettingError

GAMES, LENGTH, WIDTH = 3, 17, 6


def mixer(**settings: object) -> ContextTokenMixer:
    torch.manual_seed(0)
    return ContextTokenMixer(WIDTH, **settings).double()  # type: ignore[arg-type]


def hidden() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(GAMES, LENGTH, WIDTH, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("layers", [1, 3])
def test_sweeps_are_the_sequential_pass_as_far_as_they_have_come(layers: int) -> None:
    own = mixer(d_context=5, context_layers=layers, inputs=2)
    windows = own.windows(hidden())
    expected = own.contexts(windows)
    of_inputs = own.context.of_inputs(windows)
    # Whatever they begin with.
    found: tuple[Tensor, ...] = (torch.randn(GAMES, LENGTH, 5, dtype=torch.float64),)
    for done in range(1, LENGTH + 1):
        found = own.context.sweep(found[-1], of_inputs)
        for swept, exact in zip(found, expected, strict=True):
            torch.testing.assert_close(swept[:, :done], exact[:, :done], atol=1e-12, rtol=0)
        if done < 4:
            assert not torch.allclose(found[-1][:, done:], expected[-1][:, done:], atol=1e-3)
    for swept, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(swept, exact, atol=1e-12, rtol=0)


def test_training_by_enough_sweeps_has_the_gradients_of_the_sequential_pass() -> None:
    gradients = []
    for sweeps in (None, LENGTH):
        own = mixer(sweeps=sweeps).train()
        own(hidden()).square().sum().backward()
        gradients.append([weight.grad for weight in own.parameters()])
    for exact, swept in zip(*gradients, strict=True):
        torch.testing.assert_close(swept, exact, atol=1e-9, rtol=1e-9)


def test_what_a_layer_is() -> None:
    own = mixer(d_context=4, token_layers=2, plan="D")
    e = own.windows(hidden())[:, 0]
    layer = own.context.layers[0]
    before = torch.zeros(GAMES, 4, dtype=torch.float64)
    added = torch.nn.functional.gelu(layer.first(torch.cat([before, e], -1)))
    context = layer.norm(before + added)
    torch.testing.assert_close(own.contexts(own.windows(hidden()))[0][:, 0], context)

    def updated(layer: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return layer.norm(x + torch.nn.functional.gelu(layer.first(torch.cat([x, y], -1))))

    token = updated(own.token.layers[0], e, context)
    inside = updated(own.token.updates[0], context, token)
    expected = updated(own.token.layers[1], token, inside)
    torch.testing.assert_close(own(hidden())[:, 0], expected)


def test_a_token_layer_reads_the_context_of_its_plan() -> None:
    for plan, reads in (("A", [1, 1]), ("D", [1, 1]), ("E", [0, 1])):
        own = mixer(context_layers=2, token_layers=2, plan=plan)
        contexts = own.contexts(own.windows(hidden()))
        read = own.that_are_read(contexts)
        assert own.num_read == len(read)
        for layer, which in enumerate(reads):
            assert read[min(layer, len(read) - 1)] is contexts[which]


def test_the_last_tokens_are_read_newest_first_and_zeros_before_a_game() -> None:
    own, vectors = mixer(inputs=3), hidden()
    windows = own.windows(vectors).unflatten(-1, (3, WIDTH))
    normed = torch.nn.functional.layer_norm(vectors, (WIDTH,))
    for back in range(3):
        torch.testing.assert_close(windows[:, 5, back], normed[:, 5 - back])
    assert not windows[:, 0, 1:].any() and not windows[:, 1, 2].any()


def test_the_published_counts() -> None:
    settings = ContextTokenSettings(context_layers=6, token_layers=6, plan="E")
    assert settings.num_parameters(768) == 2 * 7_091_712
    model = ModelSettings(
        vocab_size=50257,
        d_model=768,
        mixer="context_token",
        head="tied",
        context_token=settings,
    )
    with torch.device("meta"):
        built = GameModel(model, pad_token=50256)
    of_embedding = sum(p.numel() for p in built.embedding.parameters())
    blocks = built.blocks.mixer(0)
    counts = [sum(p.numel() for p in block.parameters()) for block in blocks.children()]
    assert (of_embedding, *counts) == (38_597_376, 7_091_712, 7_091_712)
    assert of_embedding + sum(counts) == 52_780_800


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"d_context": 0}, "d_context must be a whole number of at least 1, got 0."),
        ({"expand": -1}, "expand must be at least 0, got -1."),
        ({"sweeps": 0}, "sweeps must be a whole number of at least 1, got 0."),
        ({"inputs": 0}, "inputs must be a whole number of at least 1, got 0."),
        ({"plan": "B"}, "plan must be one of A, D, E, got B."),
        (
            {"plan": "E", "token_layers": 2},
            "token_layers must be as many as context_layers with plan E, got 2.",
        ),
    ],
)
def test_what_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingError) as error:
        mixer(**settings)
    assert str(error.value) == told
