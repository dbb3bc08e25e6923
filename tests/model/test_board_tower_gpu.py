"""The kernels over boards on a GPU: float64 at real sizes, the same bits twice, in models too."""

from __future__ import annotations

import pytest
import torch

from tessera.model import board_tower
from tessera.model.board_tower import KERNELS, PLAIN
from tests.model.board_cases import CASES, MODELS, PLANES, Case, positions, trained
from tests.model.scan_cases import Tensors, as_float64, relative_error

pytestmark = pytest.mark.gpu

BFLOAT16 = torch.bfloat16
REAL = {
    "tower-9x9": Case("tower", 1000, 9, 64, depth=2, squeezed=8),
    "tower-9x9-bfloat16": Case("tower", 4000, 9, 64, depth=2, squeezed=8, casts=True),
    "tower-19x19-bfloat16": Case("tower", 700, 19, 96, depth=3, squeezed=5, casts=True),
    "tower-map-bfloat16": Case("tower", 999, 13, 48, reads=(0,), casts=True),
    "tower-squeezed-bfloat16": Case("tower", 999, 7, 128, reads=(1,), casts=True),
    "tower-wide": Case("tower", 50, 5, 300, squeezed=33),
    "tower-wide-bfloat16": Case("tower", 50, 5, 1100, squeezed=33, casts=True),
    "meet-9x9": Case("meet", 4001, 9, 64),
    "meet-19x19-bfloat16": Case("meet", 701, 19, 96, casts=True),
    "points-9x9": Case("read_points", 4001, 9, 64),
    "points-9x9-bfloat16": Case("read_points", 4001, 9, 64, casts=True),
    "points-19x19-bfloat16": Case("read_points", 701, 19, 96, depth=2, casts=True),
}


def computed(case: Case, code: board_tower.BoardCode, exact: bool = False) -> Tensors:
    inputs = case.inputs("cuda")
    more = 7 if code is KERNELS else 0  # planes that are zeros
    found = case.computed(code, as_float64(inputs) if exact else inputs, more)
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize("name", [*CASES, *(f"real {name}" for name in REAL)])
def test_results_and_all_gradients_are_those_of_float64(name: str) -> None:
    case = REAL[name.removeprefix("real ")] if name.startswith("real ") else CASES[name]
    actual, plain = computed(case, KERNELS), computed(case, PLAIN)
    expected = computed(case, PLAIN, exact=True)
    assert actual.keys() == expected.keys() == plain.keys()
    for key, value in expected.items():
        assert actual[key].dtype == plain[key].dtype, key
        assert actual[key].shape == value.shape and actual[key].isfinite().all(), key
        lost = relative_error(plain[key], value)
        more = 5e-3 if case.casts else 1e-4
        assert relative_error(actual[key], value) < 1.3 * lost + more, key


def test_gradients_are_the_same_bits_every_time() -> None:
    for case in REAL.values():
        first, second = (computed(case, KERNELS) for _ in range(2))
        for name, value in first.items():
            assert torch.equal(second[name], value), name


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
@pytest.mark.parametrize("size", [size for size, _ in PLANES])
def test_planes_are_the_plain_ones(size: int, dtype: torch.dtype) -> None:
    sets, tokens = positions(size, 3001, "cuda")
    actual, expected = (code.planes(sets, tokens, dtype) for code in (KERNELS, PLAIN))
    assert actual.dtype == dtype and actual.shape == (3001, size, size, 16)
    assert not actual[..., 9:].any() and torch.equal(actual[..., :8], expected[..., :8])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(actual[..., 8], expected[..., 8], rtol=4 * eps, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_kernels_loses_no_more_than_the_plain_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_tower, "has_kernels", board_tower.has_kernels)
    actual, plain = (trained(kernels, "cuda", **MODELS[name]) for kernels in (True, False))
    for key, value in plain.items():
        exact = plain[key.removeprefix("cast ")]
        lost = relative_error(value, exact)
        assert relative_error(actual[key], exact) < 1.3 * lost + 5e-2 * (lost > 0) + 1e-3, key


def test_it_can_be_captured_in_a_graph() -> None:
    case = Case("tower", 513, 9, 64, squeezed=8, casts=True)
    inputs = {name: value for name, value in case.inputs("cuda").items() if value is not None}

    def both() -> list[torch.Tensor]:
        leaves = [value.detach().requires_grad_() for value in held.values()]
        pairs = list(zip(leaves[1::2], leaves[2::2], strict=True))
        with torch.autocast("cuda", BFLOAT16):
            results = KERNELS.tower(leaves[0], pairs[:-1], pairs[-1])
        return [
            *results,
            *torch.autograd.grad(results, leaves, [torch.ones_like(r) for r in results]),
        ]

    held = inputs
    expected = both()
    held = {name: torch.zeros_like(value) for name, value in inputs.items()}
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = both()
    for name, value in held.items():
        value.copy_(inputs[name])
    graph.replay()
    assert all(map(torch.equal, found, expected))
