"""Operators of torch that have a gradient and that torch.compile leaves whole."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor
from torch.library import CustomOpDef

_TYPES: dict[Any, str] = {
    Tensor: "Tensor",
    int: "int",
    float: "float",
    torch.dtype: "ScalarType",
}


class Operator(NamedTuple):
    """An operator and the one of its gradients."""

    forward: CustomOpDef
    backward: CustomOpDef


def operator_of(
    name: str,
    inputs_of: Callable[..., tuple[Any, ...]],
    forward: Callable[..., Tensor | tuple[Tensor, ...]],
    backward: Callable[..., tuple[Tensor | None, ...]],
    room: Callable[..., Tensor | tuple[Tensor, ...]],
    num_results: int = 1,
    num_kept: int = 0,
    num_read_again: int = 0,
    unread: Collection[str] = (),
) -> Operator:
    """The operator ``tessera::name`` and that of its gradients.

    Args:
        name: of the operator.
        inputs_of: the NamedTuple of the arguments: tensors, of which some may be None, and numbers
            and dtypes behind them.
        forward: makes of the inputs the results and, behind them, what only the backward needs.
        backward: makes of the inputs, of what was kept and of the gradient of every result, None
            for zeros, those of the inputs from the first to the last that has one. None of them
            may share memory with another.
        room: what ``forward`` returns, unwritten.
        num_results: of them have gradients.
        num_kept: tensors behind these.
        num_read_again: results, from the first, that the backward is given before what was kept.
        unread: inputs of which the backward asks shape and dtype only, so that they are not kept.
    """
    types = get_type_hints(inputs_of)
    arguments = [f"{_TYPES.get(kind, 'Tensor?')} {key}" for key, kind in types.items()]
    kept = [f"Tensor kept_{number}" for number in range(num_read_again + num_kept)]
    grads = [f"Tensor? grad_{number}" for number in range(num_results)]
    results = ", ".join(["Tensor"] * (num_results + num_kept))

    def gradients(*given: Any) -> list[Tensor]:
        inputs = inputs_of(*given[: len(types)])
        pairs = zip(backward(inputs, *given[len(types) :]), inputs, strict=False)
        return [grad.to(tensor.dtype) for grad, tensor in pairs if grad is not None]

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        again = output[:num_read_again] if num_read_again else ()
        kept = output[num_results:] if num_kept else ()
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*kept)
        tensors = [
            _outline(value) if name in unread else value
            for name, value in zip(types, inputs, strict=True)
            if value is None or isinstance(value, Tensor)
        ]
        ctx.numbers = inputs[len(tensors) :]
        ctx.save_for_backward(*tensors, *again, *kept)

    def differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, num_tensors = ctx.saved_tensors, len(types) - len(ctx.numbers)
        inputs = (*saved[:num_tensors], *ctx.numbers)
        found = iter(operator.backward(*inputs, *saved[num_tensors:], *grads[:num_results]))
        return tuple(next(found) if _has_gradient(value) else None for value in inputs)

    define = torch.library.custom_op
    schemas = (
        f"({', '.join(arguments)}) -> ({results})",
        f"({', '.join(arguments + kept + grads)}) -> Tensor[]",
    )
    operator = Operator(
        define(
            f"tessera::{name}",
            lambda *given: forward(inputs_of(*given)),
            mutates_args=(),
            schema=schemas[0],
        ),
        define(f"tessera::{name}_backward", gradients, mutates_args=(), schema=schemas[1]),
    )
    operator.forward.register_fake(lambda *given: room(inputs_of(*given)))
    operator.backward.register_fake(
        lambda *given: [x.new_empty(x.shape) for x in given[: len(types)] if _has_gradient(x)]
    )
    operator.forward.register_autograd(differentiate, setup_context=save)
    return operator


def _outline(value: Tensor | None) -> Tensor | None:
    """A tensor of the same shape and dtype that takes the memory of one element."""
    return None if value is None else value.new_empty(()).expand(value.shape)


def _has_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
