"""What a run takes, counted without taking it: on tensors that have a size and no memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tessera.commands.bench.memory_rows import INFERENCE, MemoryRow
from tessera.commands.bench.memory_run import inference, losses_of_step, new_model, tokens_of

_STEP_BYTES = 4  # AdamW's count of steps, one for each weight


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes that a run takes.

    Attributes:
        parameters: the number of them.
        weights: of all parameters.
        gradients: of the weights; 0 in inference, as the next two.
        moments: AdamW's two of each weight, and its counts of steps.
        kept: what stands between forward and backward pass beside the weights: activations, and
            the weights in the products' precision where that is another.
        peak: at the highest moment of a step that is not the first: weights, moments, and the
            activations and gradients that there are at once, temporary ones among them.
    """

    parameters: int
    weights: int
    gradients: int
    moments: int
    kept: int
    peak: int


def count(row: MemoryRow, precision: str) -> Counted:
    """Run the row on tensors without memory, in the plain code that a CPU runs.

    Raises:
        SettingError: if the model's settings are out of range.
    """
    with FakeTensorMode():
        return counted(row, precision)


def counted(row: MemoryRow, precision: str) -> Counted:
    """Run the row once where tensors are made now, and count every one of them."""
    is_trained = row.mode != INFERENCE
    model = new_model(row.model, is_trained, precision)
    weights = list(model.parameters())
    num_bytes = sum(weight.nbytes for weight in weights)
    tokens_BL = tokens_of(model, row.batch_size, row.length)
    living = Living([*weights, *model.buffers(), tokens_BL])
    gradients = moments = kept = 0
    with living:
        if is_trained:
            losses = losses_of_step(model, tokens_BL, precision)
            kept = living.now
            losses.mean().backward()
            del losses
            gradients = sum(weight.grad.nbytes for weight in weights if weight.grad is not None)
            moments = 2 * gradients + _STEP_BYTES * len(weights)
        else:
            inference(model, tokens_BL)
    peak = num_bytes + moments + living.most
    parameters = sum(weight.numel() for weight in weights)
    return Counted(parameters, num_bytes, gradients, moments, kept, peak)


class Living(TorchDispatchMode):
    """The bytes of all tensors that operations within the ``with`` statement made and that live.

    Args:
        outside: tensors that are there before, and are not counted.

    Attributes:
        now: bytes.
        most: the most that there were at once.
    """

    def __init__(self, outside: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.most = 0
        self._sizes = {_place(tensor): 0 for tensor in outside}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, and see what came of it."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (place := _place(tensor)) not in self._sizes:
                storage = tensor.untyped_storage()
                self._sizes[place] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, place)
        self.most = max(self.most, self.now)
        return result

    def _gone(self, place: int) -> None:
        self.now -= self._sizes.pop(place)


def _place(tensor: Tensor) -> int:
    """Where the memory of a tensor is described, the same for all of its views."""
    return tensor.untyped_storage()._cdata
