"""The interpreted kernels over boards equal the plain code in float64."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from tessera.model import board_tower
from tessera.model.board_tower import KERNELS, PLAIN, board_code
from tests.interpreted import found_by
from tests.model.board_cases import CASES, MODELS, PLANES, positions, trained
from tests.model.scan_cases import Tensors, as_float64, lost_digits, relative_error

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything in ``board_cases``, computed by the kernels in Triton's interpreter."""
    file = tmp_path_factory.mktemp("boards") / "found.pt"
    found: dict[str, Any] = found_by("tests.model.board_cases", file)
    return found


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts back what a trained model of ``board_cases`` replaces."""
    monkeypatch.setattr(board_tower, "has_kernels", board_tower.has_kernels)


def assert_close(actual: Tensors, expected: Tensors, tolerance: float) -> None:
    """Every tensor is there, and no element is further off than a part of the largest."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        worst = (actual[name].to(value) - value).abs().max()
        assert worst <= tolerance * value.abs().max(), f"{name} is off by {worst:.2e}"


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_interpreted_results_and_all_gradients_are_the_plain_ones(name, interpreted) -> None:
    case, actual = CASES[name], interpreted["cases"][name]
    found = {key: value for key, value in actual.items() if value is not None}
    plain, exact = (
        {key: value for key, value in case.computed(PLAIN, given).items() if value is not None}
        for given in (case.inputs(), as_float64(case.inputs()))
    )
    assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in plain.items()}
    assert all(value.any() for value in exact.values()) and len(exact) >= 3
    if case.casts:  # the sign of a sum is another now and then, and so is a whole gradient
        assert not lost_digits(found, plain, exact)
    else:
        assert_close(found, exact, 1e-5)


@needs_triton
def test_the_same_bits_come_twice(interpreted) -> None:
    for name, first in interpreted["cases"].items():
        second = interpreted["again"][name]
        assert all(v is None or torch.equal(v, second[k]) for k, v in first.items()), name


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("size", "boards"), PLANES)
def test_interpreted_planes_are_the_plain_ones(size, boards, dtype, interpreted) -> None:
    actual = interpreted["planes"][size, dtype]
    expected = PLAIN.planes(*positions(size, boards), dtype)
    assert actual.shape == (boards, size, size, 16) and actual.dtype == dtype
    assert not actual[..., 9:].any() and torch.equal(actual[..., :8], expected[..., :8])
    # The interpreter cuts off what a GPU rounds.
    torch.testing.assert_close(actual[..., 8], expected[..., 8], rtol=1e-2, atol=0)
    assert all(expected[..., plane].any() for plane in range(9))


@needs_triton
def test_no_boards_have_no_map_and_weights_no_gradient(interpreted) -> None:
    found = interpreted["empty"]
    assert found["output"].shape == (0, 3, 3, 5) and found["last"].shape == (0, 3, 3, 3)
    weights = {name: value for name, value in found.items() if "_" in name}
    assert len(weights) == 6
    for value in weights.values():
        assert torch.equal(value, torch.zeros_like(value))


@needs_triton
def test_what_needs_no_gradient_gets_none(interpreted) -> None:
    assert interpreted["frozen"] == ["bias_1"]


@needs_triton
@pytest.mark.parametrize("name", ["model", "decoded"])
def test_a_model_of_kernels_is_the_plain_model(interpreted, plain: None, name: str) -> None:
    actual, expected = interpreted[name], trained(False, **MODELS[name])
    exact = {name: value for name, value in expected.items() if not name.startswith("cast ")}
    assert_close({name: actual[name] for name in exact}, exact, 2e-5)
    assert len(exact) > 20 and actual.keys() == expected.keys()
    for key in actual.keys() - exact.keys():
        # The interpreter cuts off what a GPU rounds.
        assert relative_error(actual[key], exact[key.removeprefix("cast ")]) < 0.1, key


def test_float64_and_a_cpu_are_left_to_the_plain_form() -> None:
    assert board_code(torch.zeros(3)) is PLAIN
    assert board_code(torch.zeros(3, dtype=torch.float64, device="meta")) is PLAIN


def test_on_a_gpu_with_triton_kernels_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_tower, "has_kernels", lambda device: True)
    assert board_code(torch.zeros(3)) is KERNELS
    assert board_code(torch.zeros(3, dtype=torch.float64)) is PLAIN
