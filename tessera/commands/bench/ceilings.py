"""What a device reaches at most, and what a step moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.commands.bench.engine_speed import now


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the device reaches in the same run: the largest matrix product, the longest copy."""

    flops_per_s: float
    bytes_per_s: float


def measure_ceilings(device: torch.device) -> Ceilings:
    """The best of some large matrix products (bfloat16 on a GPU) and of some long copies."""
    is_gpu = device.type == "cuda"
    size = 8192 if is_gpu else 1024
    dtype = torch.bfloat16 if is_gpu else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(2**28 if is_gpu else 2**24, device=device)
    target = torch.empty_like(source)

    def best(work: Callable[[], Any], at_once: int) -> float:
        times = []
        for _ in range(5):
            began = now(device)
            for _ in range(at_once):
                work()
            times.append((now(device) - began) / at_once)
        return min(times)

    product_s = best(lambda: left @ right, 10)
    copy_s = best(lambda: target.copy_(source), 5)
    return Ceilings(2 * size**3 / product_s, 2 * source.nbytes / copy_s)


class BytesMoved(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            leaves = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.total += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        return result
