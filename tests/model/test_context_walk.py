"""The walk through contexts against its plain form, its gradients, and what it takes a position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tessera.model.context_blocks import ContextBlock
from tessera.model.context_walk import WalkedLayer, walk
from tessera.model.mixers.context_token import ContextTokenMixer

GAMES, LENGTH, CONTEXT, INPUT = 5, 23, 16, 12
NO_KERNEL = ("detach", "empty", "expand", "select", "slice", "t", "transpose", "unbind", "view")
NO_KERNEL += ("_unsafe_view", "alias", "as_strided", "permute", "squeeze", "unsqueeze")


def block(layers: int, dtype: torch.dtype, d_context: int = CONTEXT) -> ContextBlock:
    torch.manual_seed(0)
    own = ContextBlock(d_context, INPUT, layers, expand=0)
    for layer in own.layers:
        torch.nn.init.normal_(layer.norm.weight, 1.0, 0.3)
        torch.nn.init.normal_(layer.norm.bias, 0.0, 0.3)
    return own.to(dtype)


def pads(where: str) -> Tensor | None:
    length_B1 = torch.tensor([LENGTH, 17, 1, 0, LENGTH - 1])[:, None]
    place_L = torch.arange(LENGTH)
    anywhere = torch.rand(GAMES, LENGTH, generator=torch.Generator().manual_seed(3)) < 0.4
    found = {"behind": place_L >= length_B1, "in front": place_L < LENGTH - length_B1}
    return None if where == "nowhere" else {**found, "anywhere": anywhere}[where]


def outputs_and_gradients(
    own: ContextBlock, is_plain: bool, is_pad: Tensor | None, dtype: torch.dtype
) -> list[Tensor]:
    """Every layer's output, and the gradients of the start, the inputs and all parameters."""
    generator = torch.Generator().manual_seed(1)
    shapes = (GAMES, CONTEXT), (GAMES, LENGTH, INPUT)
    leaves = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    start, inputs = (leaf.requires_grad_() for leaf in leaves)
    walk = own.plain_sequential if is_plain else own.sequential
    outputs = walk(start, own.of_inputs(inputs), is_pad)
    weights = [torch.randn(GAMES, LENGTH, CONTEXT, generator=generator) for _ in outputs]
    loss = sum((each * own).sum() for each, own in zip(outputs, weights, strict=True))
    assert isinstance(loss, Tensor)
    return [*outputs, *torch.autograd.grad(loss, [start, inputs, *own.parameters()])]


def distances(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """Of each pair, over the length of what was expected."""
    pairs = zip(*([x.detach() for x in each] for each in (found, expected)), strict=True)
    return [float((one - other).double().norm() / other.double().norm()) for one, other in pairs]


@pytest.mark.parametrize("where", ["nowhere", "behind", "in front", "anywhere"])
@pytest.mark.parametrize("layers", [1, 3])
def test_outputs_and_gradients_are_those_of_the_plain_form(layers: int, where: str) -> None:
    for dtype, most in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        own = block(layers, dtype)
        both = [outputs_and_gradients(own, plain, pads(where), dtype) for plain in (False, True)]
        assert max(distances(*both)) < most


def test_autocast_rounds_as_the_plain_form_does() -> None:
    own = block(2, torch.float64)
    exact = outputs_and_gradients(own, True, pads("behind"), torch.float64)
    own = own.float()
    with torch.autocast("cpu", torch.bfloat16):
        found, plain = (
            outputs_and_gradients(own, is_plain, pads("behind"), torch.float32)
            for is_plain in (False, True)
        )
    assert [each.dtype for each in found] == [each.dtype for each in plain]
    for each in (found, plain):
        assert 1e-3 < max(distances(each, exact)) < 0.02


def test_gradients_of_small_walks_are_those_of_differences() -> None:
    own = block(2, torch.float64, 3)
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(2, 4, INPUT, dtype=torch.float64, requires_grad=True)
    is_pad = torch.tensor([[False, False, True, True], [True, False, True, False]])

    def walked(start: Tensor, inputs: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return own.sequential(start, own.of_inputs(inputs), is_pad)

    assert torch.autograd.gradcheck(walked, (start, inputs, *own.parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_walk_is_of_its_tensors_dtype_whatever_autocast_is(dtype: torch.dtype) -> None:
    found = []
    for is_autocast in (False, True):
        start, layers = small_walk(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            outputs = walk(start, layers)
            gradients = torch.autograd.grad(outputs[-1].sum(), [start, *layers[0]])
        found.append([*outputs, *gradients])
    assert {each.dtype for each in found[1]} == {dtype}
    assert all(map(torch.equal, *found))


def test_a_walk_writes_into_nothing_that_it_is_given() -> None:
    start, layers = small_walk(torch.float32)
    weights = [torch.randn(4, 2, CONTEXT) for _ in layers]
    given = [start, *layers[0], *layers[1], *weights]
    before = [each.detach().clone() for each in given]
    torch.autograd.grad(walk(start, layers), [start], weights)
    assert all(map(torch.equal, given, before))


def test_a_gradient_of_a_walk_s_gradient_is_refused() -> None:
    start, layers = small_walk(torch.float32)
    (gradient,) = torch.autograd.grad(
        walk(start, layers)[-1].pow(2).sum(), start, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def small_walk(dtype: torch.dtype) -> tuple[Tensor, list[WalkedLayer]]:
    """A start, and two layers with what stands beside two games of three positions."""
    own = block(2, dtype)
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(2, CONTEXT, generator=generator).to(dtype).requires_grad_()
    inputs = torch.randn(3, 2, INPUT, generator=generator).to(dtype)
    pairs = zip(own.layers, own.of_inputs(inputs), strict=True)
    return start, [layer.walked(beside) for layer, beside in pairs]  # type: ignore[operator]


def test_gradients_are_the_same_where_activations_are_made_again() -> None:
    found = []
    for again in (False, True):
        own, hidden = mixer().train(), torch.randn(2, 9, 8, generator=torch.Generator())
        mixed = checkpoint(own, hidden, None, use_reentrant=False) if again else own(hidden)
        mixed.square().sum().backward()
        found.append([weight.grad for weight in own.parameters()])
    for one, other in zip(*found, strict=True):
        assert one is not None and one.any() and torch.equal(one, other)


def mixer(**settings: Any) -> ContextTokenMixer:
    torch.manual_seed(0)
    return ContextTokenMixer(8, **settings)


class Kernels(TorchDispatchMode):
    """Counts what torch's dispatcher runs but for what only looks at a tensor another way."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func._schema.name.removeprefix("aten::") not in NO_KERNEL
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("settings", "is_autocast", "most"),
    [({}, True, 10), ({}, False, 9), ({"context_layers": 2}, True, 20)],
)
def test_a_position_takes_few_kernels(
    settings: dict[str, Any], is_autocast: bool, most: int
) -> None:
    """Forward and backward, of PAD nothing; the plain form takes 28, 23 and 50."""
    counts = []
    for length in (10, 11):
        own, hidden = mixer(**settings).train(), torch.randn(2, length, 8, requires_grad=True)
        is_pad = torch.zeros(2, length, dtype=torch.bool)
        with Kernels() as kernels:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
                mixed = own(hidden, is_pad)
            mixed.float().square().sum().backward()
        counts.append(kernels.count)
    assert counts[1] - counts[0] == most


@pytest.mark.gpu
@pytest.mark.parametrize(("is_autocast", "most"), [(False, 1e-4), (True, 0.05)])
def test_a_graph_replays_gradients_of_other_games_and_pads(is_autocast: bool, most: float) -> None:
    own = block(1, torch.float32).cuda()
    is_pad = torch.zeros(GAMES, LENGTH, dtype=torch.bool, device="cuda")
    start = torch.randn(GAMES, CONTEXT, device="cuda", requires_grad=True)
    inputs = torch.randn(GAMES, LENGTH, INPUT, device="cuda", requires_grad=True)

    def gradients(is_plain: bool) -> tuple[Tensor, ...]:
        walk = own.plain_sequential if is_plain else own.sequential
        with torch.autocast("cuda", torch.bfloat16, enabled=is_autocast):
            outputs = walk(start, own.of_inputs(inputs), is_pad)
        loss = torch.stack(outputs).pow(3).sum()
        return torch.autograd.grad(loss, [start, inputs, *own.parameters()])

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        gradients(False)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gradients(False)
    for where in ("behind", "in front", "anywhere"):
        pad = pads(where)
        assert pad is not None
        is_pad.copy_(pad)
        with torch.no_grad():
            inputs.normal_()
        graph.replay()
        assert max(distances(found, gradients(True))) < most
