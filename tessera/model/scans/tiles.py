"""One tile for each of mamba_ssm's kernels, in place of a dozen that are compiled and timed.

Its scan of Mamba-2 is some fifteen Triton kernels, forward and backward, each of which compiles up
to eleven shapes at its first launch, one after the other, and times them: more than a minute before
the first step, again in each process, and each process may choose others, which round otherwise.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_MODULES = ("ssd_bmm", "ssd_chunk_scan", "ssd_chunk_state", "ssd_combined", "ssd_state_passing")

# What a program holds at once, by the names that the kernels have for it: a chunk of 64 positions
# and a head of 64 channels, 32 of what is summed over; 8 heads; 256 numbers of a state.
_WANTED = {
    "BLOCK_SIZE_M": 64,
    "BLOCK_SIZE_N": 64,
    "BLOCK_SIZE_K": 32,
    "BLOCK_SIZE_CS": 32,
    "BLOCK_SIZE_H": 8,
    "BLOCK_SIZE": 256,
}


def pin_mamba_ssm_tiles() -> None:
    """Leave each kernel of mamba_ssm's scan of Mamba-2 one shape, the same in every process."""
    for name in _MODULES:
        try:
            pin_tiles(importlib.import_module(f"mamba_ssm.ops.triton.{name}"))
        except ImportError:  # of a release that has it elsewhere: it is tuned as ever
            continue


def pin_tiles(module: ModuleType) -> None:
    """Leave each kernel of a module that Triton would tune the shape that is nearest."""
    tuner = getattr(sys.modules.get("triton.runtime.autotuner"), "Autotuner", None)
    if tuner is None:
        return
    for kernel in vars(module).values():
        if isinstance(kernel, tuner) and kernel.configs:
            kernel.configs = [nearest(kernel.configs)]


def nearest(configs: Sequence[Any]) -> Any:
    """The shape whose blocks are nearest to what is wanted; the first of those that are as near.

    Args:
        configs: Triton's, all with blocks of the same names.
    """

    def distance(config: Any) -> float:
        blocks = config.kwargs.items()
        return sum(abs(math.log2(size / _WANTED.get(name, size))) for name, size in blocks)

    return min(configs, key=distance)
