"""Training through torch.compile; without a GPU its own tracing, with one the real compiler."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tessera.model import MambaModel, MambaStateCapture


def train_once(model: MambaModel, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses, last states and gradients of one training step without an update."""
    model.train().zero_grad(set_to_none=True)
    with MambaStateCapture(model) as capture:
        losses = model(tokens, tokens.flip(1))
    losses.mean().backward()
    states = {f"state {layer}": state for layer, state in enumerate(capture.states)}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"losses": losses.detach(), **states, **gradients}


@pytest.fixture(autouse=True)
def _compile_anew() -> Iterator[None]:
    """One process compiles a function only so many times, and each test has models of its own."""
    torch.compiler.reset()
    yield
    torch.compiler.set_stance("default")


@pytest.fixture()
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """torch.compile without its code generator, which needs a C++ compiler; what it was asked."""
    asked: list[Any] = []
    real = torch.compile

    def record(function: Any, **options: Any) -> Any:
        asked.append(options)
        return real(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", functools.wraps(real)(record))
    return asked


@pytest.mark.parametrize("options", [{}, {"n_layers": 2}])
def test_a_compiled_model_is_the_model_and_shows_its_states(
    lively, traced: list[Any], options: dict[str, Any]
) -> None:
    model = lively(d_model=16, scan="torch", **options)
    tokens = torch.randint(0, 80, (2, 7))
    tokens[0, 5:] = model.pad_token
    expected, names = train_once(model, tokens), list(model.state_dict())
    model.compile_training(same_length=True)
    actual = train_once(model, tokens)
    assert traced == [{"fullgraph": True, "dynamic": False}]
    assert actual.keys() == expected.keys() and "state 0" in actual
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=name)
    assert list(model.state_dict()) == names


def test_only_training_is_compiled(lively, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = lively(d_model=8, scan="torch"), []
    losses = model._losses
    monkeypatch.setattr(torch, "compile", lambda f, **_: lambda *t: calls.append(1) or losses(*t))
    model.compile_training(same_length=False)
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    model.eval()(tokens, tokens)
    model.train()(tokens)
    assert calls == []
    model(tokens, tokens)
    assert calls == [1]


def test_there_is_nothing_to_compile_on_a_cpu(lively) -> None:
    assert not lively(d_model=8).can_be_compiled()


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"n_layers": 3}])
@pytest.mark.parametrize("same_length", [True, False])
def test_the_compiled_kernels_are_the_kernels(
    lively, options: dict[str, Any], same_length: bool
) -> None:
    model = lively(d_model=64, scan="triton", **options).cuda()
    assert model.can_be_compiled()
    batches = [torch.randint(0, 80, (9, length)).cuda() for length in (65, 65, 33, 40)]
    expected = [train_once(model, tokens) for tokens in batches]
    model.compile_training(same_length)
    for tokens, wanted in zip(batches, expected, strict=True):
        first, second = train_once(model, tokens), train_once(model, tokens)
        for name, value in wanted.items():
            error = (first[name] - value).norm() / value.norm().clamp(min=1e-12)
            assert error < 1e-4, (name, tokens.shape)
            assert torch.equal(first[name], second[name]), name
        if not same_length:
            torch.compiler.set_stance("fail_on_recompile")
