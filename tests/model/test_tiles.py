"""Kernels that Triton would tune have one shape, the one that fits a chunk and a head."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from tessera.model.scans.tiles import nearest, pin_tiles

triton = pytest.importorskip("triton")


def config(warps: int = 4, **blocks: int) -> Any:
    named = {f"BLOCK_SIZE_{name}" if name else "BLOCK_SIZE": n for name, n in blocks.items()}
    return triton.Config(named, num_warps=warps)


def blocks(config: Any) -> tuple[int, ...]:
    return tuple(config.kwargs.values())


def test_the_nearest_shape_covers_a_chunk_and_a_head() -> None:
    sizes = [(128, 256, 64), (64, 256, 32), (128, 64, 32), (64, 32, 32), (64, 64, 32)]
    products = [config(M=m, N=n, K=k) for m, n, k in sizes]
    assert blocks(nearest(products)) == (64, 64, 32)
    assert blocks(nearest([config(H=2**k) for k in range(7)])) == (8,)
    of_states = [triton.Config({"BLOCK_SIZE": 2**k}) for k in range(6, 12)]
    assert blocks(nearest(of_states)) == (256,)
    # Of two that are as near the first, so that every process takes the same.
    twice = [config(2, N=64, K=32), config(8, N=64, K=32)]
    assert nearest(twice) is twice[0]


def test_only_what_would_be_tuned_is_pinned() -> None:
    def kernel(x, BLOCK_SIZE_M: triton.language.constexpr):
        pass

    configs = [config(M=size) for size in (32, 64, 128)]
    module = ModuleType("planted")
    own = triton.jit(kernel)
    module.tuned = triton.autotune(configs=configs, key=[])(own)
    module.plain, module.number = own, 3
    pin_tiles(module)
    assert [blocks(each) for each in module.tuned.configs] == [(64,)]
    assert module.plain is own and module.number == 3
