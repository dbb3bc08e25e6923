"""A model's training on a GPU as CUDA graphs, forward and backward: nothing waits for the host."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from tessera.accelerator import capture_stream, current
from tessera.model.block import Seen
from tessera.model.state import Watched

_logger = logging.getLogger(__name__)
_ALIGNMENT = 512  # bytes, of whatever torch allocates
_MOST_STEPS = 64  # captured; each takes some MiB beside the memory that all share

# Losses of a batch's tensors, and what a watcher may see.
Run: TypeAlias = Callable[..., tuple[Tensor, Seen]]


def is_hooked(modules: Iterable[nn.Module], weights: Iterable[nn.Parameter]) -> bool:
    """Whether somebody wants to be called when one of these runs or has its gradient."""
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    ) or any(weight._backward_hooks or weight._post_accumulate_grad_hooks for weight in weights)


class TrainingGraphs:
    """Losses whose forward and backward pass are captured once for each shape, then replayed.

    Two launches stand for hundreds. They are the same kernels with the same numbers, so losses and
    gradients are the same bits. Hooks on the model itself are called as ever. A batch runs as it
    would without a graph if the backward pass of the batch before it is still to come, if a module
    inside the model or a parameter has a hook, or if it is of the 65th shape; all of them do if
    capturing fails. Each of the last three is said once.

    Gradients are added to ``grad`` as ever; a replayed backward pass makes each a view of memory of
    its own, and takes over what it finds there, None included.

    Args:
        model: whose parameters and modules these are.
        run: what is captured; in training, with gradients.
    """

    def __init__(self, model: nn.Module, run: Run) -> None:
        self._model, self._run = model, run
        self._weights = {k: w for k, w in model.named_parameters() if w.requires_grad}
        inside = [module for module in model.modules() if module is not model]
        # Where the model shows what was seen of a run, replayed or not.
        self._watched = [module for module in inside if isinstance(module, Watched)]
        self._inside = [module for module in inside if not isinstance(module, Watched)]
        self._pool = torch.cuda.graph_pool_handle()
        self._steps: dict[Any, _Step] = {}
        self._places: list[int] = []
        self._gradients: list[Tensor] = []
        self._newest: weakref.ref[_Ticket] | None = None
        self._is_possible = True
        self._said: set[str] = set()

    def __deepcopy__(self, memo: object) -> None:
        """A copy of the model captures its own, if it is asked to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def __call__(self, names: tuple[str, ...], *batch: Tensor) -> tuple[Tensor, Seen]:
        """What ``run`` returns for a batch.

        Args:
            names: its first argument, which tells batches apart as their shapes do.
            batch: the others.
        """
        run = partial(self._run, names)
        if not self._is_possible or self._is_under_way():
            return run(*batch)
        if self._is_hooked():
            self._say(" while a module inside the model or a parameter has a hook")
            return run(*batch)
        if self._found_places() != self._places:  # the model was moved, or this is the beginning
            self._steps.clear()
            self._gradients = self._new_gradients()
            self._places = self._found_places()
        shapes = tuple(tensor.shape for tensor in batch)
        kind = (names, shapes, torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"))
        step = self._steps.get(kind) or self._captured(kind, run, batch)
        if step is None:
            return run(*batch)
        ticket = _Ticket()
        self._newest = weakref.ref(ticket)
        losses = _Replay.apply(step.anchor, step, ticket, *batch)
        if not any(place._forward_hooks for place in self._watched):
            return losses, ()
        # The next batch overwrites what a watcher of this one may keep.
        return losses, tuple(tuple(state.clone() for state in layer) for layer in step.seen)

    def _captured(self, kind: Any, run: Run, batch: tuple[Tensor, ...]) -> _Step | None:
        """A new step; None if there are too many, or it cannot be captured."""
        if len(self._steps) == _MOST_STEPS:
            self._say(f" for batches of other shapes than the first {_MOST_STEPS}")
            return None
        try:
            self._steps[kind] = self._capture(run, batch)
            # What the step took that was launched once would lie idle from now on.
            torch.cuda.empty_cache()
        except RuntimeError as error:
            self._is_possible = False
            self._steps.clear()
            self._say(f": {cause(error)}")
        return self._steps.get(kind)

    def _say(self, when: str) -> None:
        """Say once that, and when or why, a step is not replayed."""
        if when not in self._said:
            self._said.add(when)
            _logger.warning("training steps are launched one kernel at a time%s", when)

    def _found_places(self) -> list[int]:
        """Where the weights lie, and the memory of their gradients, which moves with them."""
        return [tensor.data_ptr() for tensor in (*self._weights.values(), *self._gradients)]

    def _is_under_way(self) -> bool:
        """Whether a batch was replayed whose backward pass may still come."""
        ticket = None if self._newest is None else self._newest()
        return ticket is not None and not ticket.is_used

    def _is_hooked(self) -> bool:
        """Whether something inside the model wants to be called that a replay would not call."""
        return is_hooked(self._inside, self._weights.values())

    def _capture(self, run: Run, batch: tuple[Tensor, ...]) -> _Step:
        step = _Step(run, tuple(tensor.clone() for tensor in batch))
        # The graph is made of other names of the same memory: what torch holds of a parameter, a
        # stream among it, lives as long as anything that was computed from it before.
        others = {name: nn.Parameter(weight.detach()) for name, weight in self._weights.items()}

        def capture() -> None:
            self._warm_up(step, list(others.values()))
            with Capture(step.forward, self._pool):
                step.losses, step.seen = step.run(*step.batch)
            step.gradient = torch.empty_like(step.losses)
            places = list(zip(self._weights.values(), self._gradients, strict=True))
            with Capture(step.backward, self._pool):
                found = _gradients(step.losses, list(others.values()), step.gradient)
                # One that the losses do not depend on goes without, as it would.
                reached = [k for k, gradient in enumerate(found) if gradient is not None]
                step.views = [places[k] for k in reached]
                torch._foreach_add_([view for _, view in step.views], [found[k] for k in reached])

        inner: dict[str, Tensor] = {f"model.{name}": other for name, other in others.items()}
        with current(step.anchor.device):
            functional_call(_Holder(self._model), inner, (capture,))
        step.losses = step.losses.detach()
        step.seen = tuple(tuple(state.detach() for state in layer) for layer in step.seen)
        return step

    def _warm_up(self, step: _Step, others: list[Tensor]) -> None:
        """Compile what a capture cannot, and see that gradients come to the other names."""
        before = torch.cuda.current_stream()
        with torch.cuda.stream(torch.cuda.Stream(step.anchor.device)):
            torch.cuda.current_stream().wait_stream(before)
            losses, _ = step.run(*step.batch)
            weights = list(self._weights.values())
            found = _gradients(losses, [*others, *weights], torch.ones_like(losses))
        torch.cuda.synchronize(step.anchor.device)
        if any(gradient is not None for gradient in found[len(others) :]):
            raise RuntimeError("a part holds a parameter elsewhere than in its attributes")

    def _new_gradients(self) -> list[Tensor]:
        """Memory for the gradient of every parameter, in one piece for each dtype."""
        weights = list(self._weights.values())
        by_weight: dict[int, Tensor] = {}
        for dtype in {weight.dtype for weight in weights}:
            own = [weight for weight in weights if weight.dtype == dtype]
            # Each begins where torch would let it: elsewhere kernels add in another order.
            step = _ALIGNMENT // dtype.itemsize
            sizes = [-(-weight.numel() // step) * step for weight in own]
            whole = torch.zeros(sum(sizes), dtype=dtype, device=own[0].device)
            for weight, piece in zip(own, whole.split(sizes), strict=True):
                by_weight[id(weight)] = piece[: weight.numel()].view_as(weight)
        return [by_weight[id(weight)] for weight in weights]


class _Step:
    """A captured batch: what goes in, what comes out, and the two graphs between them."""

    losses: Tensor
    seen: Seen
    gradient: Tensor  # of the losses
    views: Sequence[tuple[nn.Parameter, Tensor]]  # parameters, and where their gradients are

    def __init__(self, run: Run, batch: tuple[Tensor, ...]) -> None:
        self.run, self.batch = run, batch
        self.anchor = torch.zeros((), device=batch[0].device, requires_grad=True)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()

    def take_over(self) -> None:
        """Let the gradients be where the graph adds to them, with the values they have."""
        lost = [view for weight, view in self.views if weight.grad is None]
        if lost:
            torch._foreach_zero_(lost)
        for weight, view in self.views:
            if weight.grad is not view:
                if weight.grad is not None:
                    view.copy_(weight.grad)
                weight.grad = view


class _Ticket:
    """Of one replayed forward pass: whether its backward pass has been made."""

    is_used = False


class _Replay(torch.autograd.Function):
    """Replays the forward and the backward pass of a step; the anchor is what needs a gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, step: _Step, ticket: _Ticket, *batch: Tensor) -> Tensor:
        ctx.step, ctx.ticket = step, ticket
        for own, new in zip(step.batch, batch, strict=True):
            own.copy_(new)
        step.forward.replay()
        return step.losses.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        if ctx.ticket.is_used:
            raise RuntimeError("a backward pass can be made once; make the forward pass again.")
        ctx.ticket.is_used = True
        ctx.step.gradient.copy_(gradient)
        ctx.step.take_over()
        ctx.step.backward.replay()
        return (None,) * (3 + len(ctx.step.batch))


class _Holder(nn.Module):
    """Calls a function while the parameters of the model go by other names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], None]) -> None:
        function()


class Capture(torch.cuda.graph):
    """Captures what runs in it on the current device; other threads may go on using the device.

    Args:
        graph: what it becomes.
        pool: of memory that graphs share which are never replayed at once; None for its own.
    """

    def __init__(self, graph: torch.cuda.CUDAGraph, pool: Any = None) -> None:
        self._own_pool = torch.cuda.graph_pool_handle() if pool is None else pool
        stream = capture_stream(torch.cuda.current_device())
        super().__init__(
            graph, pool=self._own_pool, stream=stream, capture_error_mode="thread_local"
        )
        self._before = torch.cuda.current_stream()

    def __enter__(self) -> None:
        # Weights that autocast has rounded outside would be constants of the graph.
        torch.clear_autocast_cache()
        super().__enter__()

    def __exit__(self, *error: object) -> None:
        torch.clear_autocast_cache()
        try:
            super().__exit__(*error)
        except RuntimeError:
            torch.cuda.set_stream(self._before)
            _forget_capture(self._own_pool)
            raise


def _forget_capture(pool: Any) -> None:
    """Before 2.12 torch takes it that a capture that failed goes on."""
    with suppress(RuntimeError):  # there is nothing to be ended
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
    # Its random numbers, too, come out of a capture at the end of the next one.
    with suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.zeros((), device="cuda")


def cause(error: BaseException) -> str:
    """What went wrong in a capture, in a line; what came of it is raised last."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).strip().splitlines()[0]


def _gradients(losses: Tensor, weights: list[Tensor], gradient: Tensor) -> Sequence[Any]:
    """As a backward pass makes them, which knows no autocast; None where there is none."""
    with torch.autocast("cuda", enabled=False):
        return torch.autograd.grad([losses], weights, [gradient], allow_unused=True)
