"""What the devices of this machine can run."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch

_GIB = 2**30
_MIN_CAPABILITY = (8, 0)  # Triton's own lower limit


def triton_obstacle(device: torch.device) -> str:
    """What Triton would need to run on this device, as a noun; empty if it can.

    Its interpreter, which its own switch TRITON_INTERPRET=1 turns on, runs on the CPU.
    """
    if not _has_triton():
        return "the package triton"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return _broken_triton()
    if device.type != "cuda" or torch.version.cuda is None:
        return f"a CUDA device, got {device}"
    capability = _capability(device)
    if capability < _MIN_CAPABILITY:
        needed, found = (".".join(map(str, pair)) for pair in (_MIN_CAPABILITY, capability))
        return f"a CUDA device of compute capability {needed} or above, got {found}"
    return _broken_triton()


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make this the current device while a kernel is launched; nothing in the interpreter.

    Triton takes the current CUDA device, whatever the tensors say.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@functools.cache
def capture_stream(index: int) -> torch.cuda.Stream:
    """The stream on which the graphs of a CUDA device are captured.

    What torch would take is of the device that was the current one at the first capture, and what
    another device is launched meanwhile would run at once, and be in no graph.
    """
    return torch.cuda.Stream(index)


def memory_problem(num_bytes: int, device: torch.device) -> str:
    """What so many bytes need that the device has not, as a noun; empty if it has that much.

    Its whole memory counts, so that nothing is asked of a GPU: what does not fit beside the rest
    ends in torch's own error.
    """
    memory = device_memory(device)
    if num_bytes <= memory:
        return ""
    return f"{-(-num_bytes // _GIB):,} GiB of memory, {device} has {memory // _GIB:,} GiB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device had no memory left; on a CPU torch raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@functools.cache
def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device, of all but CUDA's that of the machine; "meta" has no end."""
    if device.type == "meta":  # where nothing takes any
        return sys.maxsize
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    """Asked once of each device, not for each kernel."""
    return torch.cuda.get_device_capability(device)


@functools.cache
def _has_triton() -> bool:
    """Looked up once: it takes longer than many a kernel."""
    return find_spec("triton") is not None


@functools.cache
def _broken_triton() -> str:
    """What is wrong with the Triton that is installed, as a noun; empty if it can be imported."""
    try:
        importlib.import_module("triton")
    except Exception as error:  # a broken installation raises whatever it likes
        return f"a package triton that can be imported ({error})"
    return ""
