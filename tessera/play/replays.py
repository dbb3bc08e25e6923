"""A model's answers as CUDA graphs: a GPU is done with one before its host has launched it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from tessera.accelerator import current
from tessera.model import GameModel, ModelState
from tessera.model.graphs import Capture, cause, is_hooked

_logger = logging.getLogger(__name__)
_MOST_GRAPHS = 8  # kinds of questions; each takes some MiB

# What a model says, and the state behind it if it carries one, of some tensors.
Run: TypeAlias = Callable[[Sequence[Tensor]], tuple[Tensor, ModelState | None]]


class Replays:
    """Runs of one model, captured when tensors of the same shapes come twice running.

    On a GPU hundreds of launches become one, with the same bits. Elsewhere, and while a module has
    a hook, nothing is captured. If capturing fails, that is said once, and nothing is any more.
    Threads may share it; ``Replays.of`` is what all games with a model share.

    Args:
        model: whose weights the runs read.
    """

    _by_model: ClassVar[WeakKeyDictionary[GameModel, Replays]] = WeakKeyDictionary()

    def __init__(self, model: GameModel) -> None:
        self._model = ref(model)  # which a table of all models would keep alive
        self._newest: object = None
        self._graphs: dict[object, _Graph] = {}
        self._places: list[int] = []
        self._is_possible = True
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # Of a game that is copied, with its model: the copy captures its own.
        return Replays.of, (self._model(),)

    @classmethod
    def of(cls, model: GameModel) -> Replays:
        """Those of a model, as long as it lives."""
        return cls._by_model.setdefault(model, cls(model))

    def __call__(
        self, name: str, run: Run, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, ModelState | None]:
        """What ``run`` returns for these inputs, in memory of its own.

        Args:
            name: tells runs apart that are given tensors of the same shapes.
            run: reads nothing else that changes, and waits for nothing.
            inputs: on the model's device.
        """
        model = self._model()
        if inputs[0].device.type != "cuda" or not self._is_possible or model is None:
            return run(inputs)
        if is_hooked(model.modules(), model.parameters()):
            return run(inputs)
        with self._lock:
            if (places := [weight.data_ptr() for weight in model.parameters()]) != self._places:
                self._graphs.clear()
                self._newest = None  # of another dtype other kernels are compiled
                self._places = places
            autocast = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
            kind = (name, autocast, *((tensor.shape, tensor.dtype) for tensor in inputs))
            if kind not in self._graphs:
                # The first time compiles what a capture cannot. A window that still grows has
                # another shape at each move, and would take all places.
                is_first, self._newest = kind != self._newest, kind
                if is_first or len(self._graphs) == _MOST_GRAPHS:
                    return run(inputs)
                try:
                    self._graphs[kind] = _Graph(run, inputs)
                except RuntimeError as error:
                    self._is_possible = False
                    _logger.warning("moves are read one kernel at a time: %s", cause(error))
                    return run(inputs)
            return self._graphs[kind].replay(inputs)


class _Graph:
    """A captured run, and the memory that it reads and writes."""

    def __init__(self, run: Run, inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with current(inputs[0].device), Capture(self._graph):
            self._said, self._state = run(self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ModelState | None]:
        """What the run makes of these, which the next replay leaves alone."""
        for own, new in zip(self._inputs, inputs, strict=True):
            own.copy_(new)
        self._graph.replay()
        state = None if self._state is None else self._state.map(torch.clone)
        return self._said.clone(), state
