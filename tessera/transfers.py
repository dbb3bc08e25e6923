"""Copies between host and device that Tessera makes: each has an owner, and can be timed.

Nothing else in ``tessera/`` copies to the host while a model trains. As long as nobody listens,
these functions are plain copies and cost nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import record_function

from tessera.stopwatch import Stopwatch

LABEL = "tessera.transfer/"  # in a profiler's record, followed by the owner


@dataclass(frozen=True, slots=True)
class Transfer:
    """One copy that is over.

    Attributes:
        owner: which part of the program asked for it.
        num_bytes: what was moved between the two memories; 0 where the tensor lay on the host.
        ms: on a CUDA device how long the copy itself took there, without the queue before it; on a
            CPU, where nothing is moved, the processor's time in the call.
    """

    owner: str
    num_bytes: int
    ms: float


class PendingTransfer:
    """A copy that a listener is told of while the GPU may still be at it."""

    def __init__(self, owner: str, num_bytes: int, watch: Stopwatch) -> None:
        self.owner, self.num_bytes, self._watch = owner, num_bytes, watch

    def resolve(self) -> Transfer | None:
        """The copy with its time, or None while it is not over; never waits."""
        ms = self._watch.ms()
        return None if ms is None else Transfer(self.owner, self.num_bytes, ms)


# Who is told of every copy; called on the thread that copies.
TransferListener = Callable[[PendingTransfer], None]


class HostCopy:
    """A copy to the host that was begun; ``result`` says when it has arrived."""

    def __init__(self, host: Tensor, arrived: torch.cuda.Event | None) -> None:
        self._host, self._arrived = host, arrived

    def result(self) -> Tensor | None:
        """The tensor on the host, or None while it is on its way; never waits."""
        return self._host if self._arrived is None or self._arrived.query() else None

    def wait(self) -> Tensor:
        """The tensor on the host, once it has arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host


_listeners: list[TransferListener] = []


def subscribe(listener: TransferListener) -> Callable[[], None]:
    """Have a listener told of every copy from now on.

    Returns:
        what ends that; calling it twice is harmless.
    """
    _listeners.append(listener)

    def unsubscribe() -> None:
        # By identity: two listeners may be equal.
        _listeners[:] = [other for other in _listeners if other is not listener]

    return unsubscribe


def owned(owner: str) -> AbstractContextManager[object]:
    """Whatever is copied inside belongs to ``owner``; for copies that other libraries make.

    They are found by the profiler (see ``monitor.copies``), not timed one by one.
    """
    return record_function(LABEL + owner) if _listeners else nullcontext()


def to_host(tensor: Tensor, owner: str) -> Tensor:
    """The tensor on the host; the same one if it lies there. Waits for the GPU.

    Args:
        tensor: of any shape, on any device.
        owner: which part of the program needs it.
    """
    if not _listeners or not tensor.is_cuda:
        with _timed(tensor, owner):
            return tensor.cpu()
    # Made beforehand, so that finding the memory is not timed.
    host = torch.empty_like(tensor, device="cpu")
    with _timed(tensor, owner):
        return host.copy_(tensor)


def begin_to_host(tensor: Tensor, owner: str) -> HostCopy:
    """Begin to copy a tensor to the host, without waiting for the GPU.

    Args:
        tensor: of any shape, on any device; may be changed or freed at once.
        owner: which part of the program needs it.
    """
    if not tensor.is_cuda:
        with _timed(tensor, owner):
            return HostCopy(tensor.detach().clone(), None)
    # Only from pinned memory does the GPU copy while the host goes on.
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    with _timed(tensor, owner):
        host.copy_(tensor.detach(), non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(tensor.device))
    return HostCopy(host, arrived)


@contextmanager
def _timed(tensor: Tensor, owner: str) -> Iterator[None]:
    if not _listeners:
        yield
        return
    with record_function(LABEL + owner):
        # This thread's own time: waiting for another process is no part of a copy.
        watch = Stopwatch(tensor.device, time.thread_time)
        watch.start()
        yield
        watch.stop()
    num_bytes = 0 if tensor.device.type == "cpu" else tensor.numel() * tensor.element_size()
    transfer = PendingTransfer(owner, num_bytes, watch)
    for listener in tuple(_listeners):
        listener(transfer)
