"""The largest batch that a training has room for, found by making steps of growing ones."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torchmetrics import Metric

from tessera.accelerator import is_out_of_memory
from tessera.compiling import compile_together
from tessera.data import BatchTrials, GameBatch
from tessera.data.selfplay_stream import MOST_SLOTS
from tessera.training.optimizer import GraphedAdamW
from tessera.training.strategy import allows_graphs
from tessera.transfers import owned, to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule

# Of what is free; the rest is for what an allocator loses between its blocks, and for games whose
# memory is only estimated.
_SHARE = 0.85


class Room(Protocol):
    """The memory that a training is in."""

    def free(self) -> int:
        """Bytes that could still be taken, those that other processes hold not among them."""
        ...

    def most_of(self, run: Callable[[], None]) -> int:
        """Bytes that a run takes at its highest moment, beside what was there before it.

        Raises:
            RuntimeError: torch's own, if there are not as many.
        """
        ...


class CudaRoom:
    """The memory of a CUDA device.

    Args:
        device: which.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int:
        """See ``Room.free``; what torch holds and nobody uses is free too."""
        free, _ = torch.cuda.mem_get_info(self._device)
        reserved = torch.cuda.memory_reserved(self._device)
        return free + reserved - torch.cuda.memory_allocated(self._device)

    def most_of(self, run: Callable[[], None]) -> int:
        """See ``Room.most_of``; waits for the device."""
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        run()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - before


class Found(NamedTuple):
    """The size that was found.

    Attributes:
        size: of a batch; 0 if there is no room for any.
        needed: bytes that it takes.
        free: bytes that there were for it.
    """

    size: int
    needed: int
    free: int


def batch_size_that_fits(
    module: TesseraModule, trials: BatchTrials, room: Room | None = None
) -> int:
    """The size for all processes of a run: the smallest of those that each finds for itself.

    Args:
        module: on its device, before its first step.
        trials: what to try.
        room: the memory; None for that of a CUDA device, and on a CPU for none that is looked at.

    Raises:
        MemoryError: if one of them has no room for any batch.
    """
    device, strategy = module.device, module.trainer.strategy
    if room is None and device.type == "cuda":
        room = CudaRoom(device)
    usual = Found(trials.usual, 0, 0)
    found = usual if room is None else largest_batch(module, trials, room)
    with owned("batch size"):
        own = torch.tensor(found.size, dtype=torch.int64, device=device)
        # Whoever has no room says so after all have answered, so that nobody waits for it.
        agreed = int(to_host(strategy.reduce(own, reduce_op="min"), "batch size"))
    if not agreed:
        advice = "lower data.context, data.games_per_chunk or model.d_model."
        raise MemoryError(f"out of memory: there is no room for a batch of one sequence: {advice}")
    if module.trainer.is_global_zero:
        print(f"tessera: {_said(agreed, found, room)}", file=sys.stderr, flush=True)
    return agreed


def _said(agreed: int, found: Found, room: Room | None) -> str:
    size = f"data.batch_size is {agreed:,}"
    if room is None:
        return f"{size}: on a CPU the memory is not asked."
    if agreed < found.size:
        return f"{size}, which is what fits into the memory of every process."
    needed, free = (number / 2**30 for number in found[1:])
    return f"{size}: its steps take {needed:,.1f} GiB of {free:,.1f} GiB that are free."


def largest_batch(module: TesseraModule, trials: BatchTrials, room: Room) -> Found:
    """Make whole steps with growing batches until one does not fit.

    Forward pass, loss, backward pass and the optimizer's update, whose learning rate is zero; and
    what a validation does with a batch. Nothing of it is left: not in the weights, nor in buffers,
    metrics, random numbers or what the objective keeps.

    Args:
        module: on its device, before its first step.
        trials: what to try.
        room: where.
    """
    with _left_as_it_was(module):
        trial = _Trial(module, trials, room)
        found = largest_that_fits(trials.sizes, trial.needed, trial.free)
    del trial
    _tidy(module.device)
    return found


def largest_that_fits(
    sizes: Sequence[int], needed: Callable[[int], int], free: Callable[[], int]
) -> Found:
    """The last of growing sizes that needs no more than is free; 0 if there is none.

    Args:
        sizes: in ascending order.
        needed: bytes by size; may run out of memory.
        free: bytes.
    """
    found = Found(0, 0, 0)
    for size in sizes:
        try:
            bytes_needed, bytes_free = needed(size), free()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        if bytes_needed > bytes_free:
            break
        found = Found(size, bytes_needed, bytes_free)
    return found


class _Trial:
    """Steps of a module that are made to be forgotten."""

    def __init__(self, module: TesseraModule, trials: BatchTrials, room: Room) -> None:
        self._module, self._trials, self._room = module, trials, room
        trainer = module.trainer
        groups = [{"params": list(module.parameters()), "weight_decay": 0.0}]
        self._optimizer = GraphedAdamW(groups, 0.0, is_captured=False)
        if trainer.gradient_clip_val:
            how = trainer.gradient_clip_algorithm or "norm"
            self._optimizer.clip = (trainer.gradient_clip_val, str(how))
        is_graphed = module.hparams["cuda_graph"] and module.device.type == "cuda"
        # A captured step holds its memory, and the one that is captured needs as much beside it.
        self._times = 2 if is_graphed and allows_graphs(trainer.strategy) else 1
        self._is_warm = False

    def free(self) -> int:
        """Bytes that may be used."""
        return int(_SHARE * self._room.free())

    def needed(self, size: int) -> int:
        """Bytes that training on batches of this size takes."""
        objective, model = self._module.objective, self._module.model
        try:
            games = self._trials.games(size)
            to_come = objective.bytes_to_come(model, games)
            batch: Any = objective.trial(model, games)
            del games
            if not self._is_warm:  # kernels are compiled, moments and workspaces are taken
                self._is_warm = True
                launch = partial(self._module.launch_training, batch)
                with self._module.trainer.precision_plugin.train_step_context():
                    compile_together(self._module.device, launch)
                self._step(batch)
            of_step = self._times * self._room.most_of(partial(self._step, batch))
            del batch
            held_out = self._trials.held_out(size)
            of_validation = self._room.most_of(partial(self._measure, held_out))
            del held_out
        finally:
            self._optimizer.zero_grad()
            _tidy(self._module.device)
        beside = to_come + self._trials.bytes_beside(size) + self._selfplay(size)
        return max(of_step, of_validation) + beside

    def _step(self, batch: Any) -> None:
        module = self._module.train()
        with module.trainer.precision_plugin.train_step_context():
            loss = module.objective.loss(module.model, batch)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _measure(self, batch: GameBatch) -> None:
        module = self._module.eval()
        with torch.no_grad(), module.trainer.precision_plugin.val_step_context():
            module.objective.measure(module.model, batch)
        _reset_metrics(module)

    def _selfplay(self, size: int) -> int:
        """The model that plays itself, and what it remembers of its games."""
        data = self._module.trainer.datamodule  # type: ignore[attr-defined]
        if not getattr(data, "selfplay_share", 0):
            return 0
        plies = data.settings.rules.move_limit(data.settings.board_size)
        model = self._module.model
        games = min(MOST_SLOTS, max(size, data.settings.games_per_chunk))
        of_game = model.init_state(1, "meta", plies + 1).bytes_per_game
        return games * of_game + sum(weight.nbytes for weight in model.parameters())


@contextmanager
def _left_as_it_was(module: TesseraModule) -> Iterator[None]:
    """Put back what steps change beside weights, which a learning rate of zero leaves alone."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    modes = [(part, part.training) for part in module.modules()]
    kept = module.objective.saved()
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        module.objective.forget()
        module.objective.restore(kept)
        _reset_metrics(module)
        for buffer, before in buffers:
            buffer.copy_(before)
        for part, mode in modes:
            part.training = mode
        for weight in module.parameters():
            weight.grad = None


def _reset_metrics(module: TesseraModule) -> None:
    for part in module.modules():
        if isinstance(part, Metric):
            part.reset()


def _tidy(device: torch.device) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
