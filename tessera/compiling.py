"""Triton's kernels compiled side by side, instead of each at its first launch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from tessera.accelerator import current, triton_obstacle

_logger = logging.getLogger(__name__)


def compile_together(device: torch.device, *runs: Callable[[], object]) -> None:
    """Compile the kernels that these would launch for the first time, all of them at once.

    Each is called, but where Triton would have to compile a kernel it only notes how the kernel is
    launched, and leaves the launch out. So what is compiled is what the same call launches later,
    to the last detail; and what a call computes now is garbage, which it must neither keep nor take
    for an index. No other thread may launch a kernel meanwhile. Whatever goes wrong here goes wrong
    again, and is told, at the launch itself.

    Args:
        device: where the kernels are launched; nothing happens if Triton cannot run there.
        runs: they launch kernels that are not tuned by measuring them.
    """
    if triton_obstacle(device) or os.environ.get("TRITON_INTERPRET") == "1":
        return
    from triton import knobs

    if knobs.runtime.jit_cache_hook is not None:
        return  # somebody else's
    noted: dict[tuple[Any, str], str] = {}

    def note(*, key: str, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
        noted[fn.jit_function, key] = compile["specialization_data"]
        return True  # for Triton: neither compile nor launch it

    knobs.runtime.jit_cache_hook = note
    try:
        for run in runs:
            run()
    except Exception as error:
        _logger.debug("kernels are compiled at their launch: %s", error)
    finally:
        knobs.runtime.jit_cache_hook = None

    def compile_one(kernel: Any, how: str) -> None:
        with current(device):
            kernel.preload(how).run  # noqa: B018 — it is made at the first look, and takes a compiler too

    # Most of the compiler runs outside of Python, and the assembler is a process of its own.
    with ThreadPoolExecutor(max(1, len(noted))) as pool:
        jobs = [pool.submit(compile_one, kernel, how) for (kernel, _), how in noted.items()]
    for job in jobs:
        if (fault := job.exception()) is not None:
            _logger.debug("a kernel is compiled at its launch: %s", fault)
