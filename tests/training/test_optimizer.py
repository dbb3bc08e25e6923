"""The optimizer is torch's AdamW after torch's clipping, and its state is one that others read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tessera.training import TesseraModule
from tessera.training.optimizer import GraphedAdamW
from tests.runs import fit

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def weights_of(device: str) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(size, device=device)) for size in ((3, 4), (5,))]


def groups_of(weights: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [
        {"params": weights[:1], "weight_decay": 0.3},
        {"params": weights[1:], "weight_decay": 0.0},
    ]


def set_gradients(weights: list[nn.Parameter], step: int) -> None:
    """In the place of the gradient before, as a graph writes them."""
    for index, weight in enumerate(weights):
        if weight.grad is None:
            weight.grad = torch.empty_like(weight)
        generator = torch.Generator().manual_seed(10 * step + index)
        weight.grad.copy_(torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("clip", [None, (0.5, "norm"), (0.1, "value")])
def test_it_updates_as_torch_does(device: str, clip: tuple[float, str] | None) -> None:
    ours, theirs = weights_of(device), weights_of(device)
    optimizer = GraphedAdamW(groups_of(ours), 0.1)
    optimizer.clip = clip
    # On a GPU torch takes a learning rate of double precision where it is a number.
    lr = torch.tensor(0.1, device=device) if device == "cuda" else 0.1
    plain = torch.optim.AdamW(groups_of(theirs), lr=lr, fused=device == "cuda")
    for step in range(6):
        value = 0.1 / (step + 1)
        for group in plain.param_groups:
            group["lr"] = torch.tensor(value, device=device) if device == "cuda" else value
        optimizer.set_lr(value)
        for weights in (ours, theirs):
            set_gradients(weights, step)
        if clip is not None:
            (clip_grad_value_ if clip[1] == "value" else clip_grad_norm_)(theirs, clip[0])
        optimizer.step()
        plain.step()
        assert all(map(torch.equal, ours, theirs)), step
    assert (optimizer._graph is not None) == (device == "cuda")


@pytest.mark.parametrize(
    ("kind", "size"),
    [("norm", lambda gradient: gradient.norm()), ("value", lambda gradient: gradient.abs().max())],
    ids=["norm", "value"],
)
def test_a_run_clips_the_gradients_as_it_is_told(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    size: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    found: list[float] = []
    log = TesseraModule.on_train_batch_end

    def look(module: TesseraModule, *arguments: Any) -> None:
        gradients = [weight.grad.flatten() for weight in module.parameters()]  # type: ignore[union-attr]
        found.append(float(size(torch.cat(gradients))))
        log(module, *arguments)

    monkeypatch.setattr(TesseraModule, "on_train_batch_end", look)
    most = ["--trainer.gradient_clip_val", 1e-4, "--trainer.gradient_clip_algorithm", kind]
    assert fit("--trainer.max_steps", 3, *most) == 0
    assert len(found) == 3 and all(0.9e-4 < value < 1.001e-4 for value in found)


@pytest.mark.parametrize("device", DEVICES)
def test_a_state_goes_on_where_it_was_saved(device: str) -> None:
    whole = weights_of(device)
    optimizer = GraphedAdamW(groups_of(whole), 0.1)
    for step in range(4):
        set_gradients(whole, step)
        optimizer.step()
    state = optimizer.state_dict()
    assert [group["lr"] for group in state["param_groups"]] == [0.1, 0.1]
    assert all(type(group["lr"]) is float for group in state["param_groups"])
    parts = [nn.Parameter(weight.detach().clone()) for weight in whole]
    resumed = GraphedAdamW(groups_of(parts), 0.7)
    for step in range(4):  # what it has captured by then holds other moments
        set_gradients(parts, step)
        resumed.step()
    resumed.load_state_dict(copy.deepcopy(state))
    assert [group["lr"] for group in resumed.state_dict()["param_groups"]] == [0.1, 0.1]
    with torch.no_grad():
        for part, weight in zip(parts, whole, strict=True):
            part.copy_(weight)
    for step in range(4, 8):
        for each, weights in ((optimizer, whole), (resumed, parts)):
            set_gradients(weights, step)
            each.step()
    assert all(map(torch.equal, parts, whole))


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_set_between_two_steps_holds(device: str) -> None:
    ours, theirs = weights_of(device), weights_of(device)
    optimizer, plain = (GraphedAdamW(groups_of(w), 0.1) for w in (ours, theirs))
    plain._captures_left = 0
    for step in range(8):
        for each, weights in ((optimizer, ours), (plain, theirs)):
            set_gradients(weights, step)
            if step == 4:
                each.param_groups[0]["weight_decay"] = 0.01
                each.clip = (0.2, "norm")
            if step == 6:  # somebody puts a gradient somewhere else
                weights[1].grad = weights[1].grad.clone()  # type: ignore[union-attr]
            each.step()
        assert all(map(torch.equal, ours, theirs)), step


@pytest.mark.gpu
def test_a_state_of_a_cpu_goes_on_on_a_gpu_and_back() -> None:
    states = []
    for device, other in (("cpu", "cuda"), ("cuda", "cpu")):
        first, second = weights_of(device), weights_of(other)
        optimizer, resumed = (GraphedAdamW(groups_of(w), 0.1) for w in (first, second))
        for step in range(3):
            set_gradients(first, step)
            optimizer.step()
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for step in range(3, 7):
            set_gradients(second, step)
            resumed.step()
        states.append([state["step"].item() for state in resumed.state.values()])
        assert all(weight.isfinite().all() for weight in second)
    assert states == [[7, 7], [7, 7]]


@pytest.mark.gpu
def test_gradients_that_never_stay_in_place_are_not_captured_for_ever() -> None:
    weights = weights_of("cuda")
    optimizer = GraphedAdamW(groups_of(weights), 0.1)
    kept = []
    for step in range(60):
        if step % 2 == 0:
            for weight in weights:
                kept.append(weight.grad)
                weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert optimizer._captures_left == 0
