"""The norm's interpreted kernels equal the plain code in float64; on a CPU nothing changes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

from tessera.model import norm as norm_module
from tessera.model.norm import ResidualNorm, add_and_normalize, triton_add_and_normalize
from tests.interpreted import found_by
from tests.model.norm_cases import CASES, Case, kept_bytes, tolerance, trained
from tests.model.scan_cases import Tensors, as_float64

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything in ``norm_cases``, computed by the kernels in Triton's interpreter."""
    file = tmp_path_factory.mktemp("norm") / "found.pt"
    found: dict[str, Any] = found_by("tests.model.norm_cases", file)
    return found


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts back what a trained model of ``norm_cases`` replaces."""
    monkeypatch.setattr(norm_module, "has_kernels", norm_module.has_kernels)


def assert_close(actual: Tensors, expected: Tensors, tolerance: float) -> None:
    """Every tensor is there, and no element is further off than a part of the largest."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert (actual[name] is None) == (value is None), name
        if value is not None:
            assert actual[name].shape == value.shape, name
            worst = (actual[name].to(value) - value).abs().max()
            assert worst <= tolerance * value.abs().max(), f"{name} is off by {worst:.2e}"


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_the_interpreted_norm_and_all_gradients_are_the_plain_ones(name, interpreted) -> None:
    case, actual = CASES[name], interpreted["cases"][name]
    expected = case.computed(add_and_normalize, as_float64(case.inputs()))
    assert_close(actual, expected, tolerance(case))
    plain = case.computed(add_and_normalize, case.inputs())
    kinds = {key: value if value is None else value.dtype for key, value in plain.items()}
    assert {k: v if v is None else v.dtype for k, v in actual.items()} == kinds


@needs_triton
def test_the_sum_is_the_plain_one_bit_for_bit(interpreted) -> None:
    for name, case in CASES.items():
        # The interpreter cuts off what a GPU rounds.
        if case.reads_sum and torch.bfloat16 not in (case.dtype, case.normed):
            expected = case.computed(add_and_normalize, case.inputs())["last"]
            assert torch.equal(interpreted["cases"][name]["last"], expected), name


@needs_triton
def test_zeros_stay_zeros(interpreted) -> None:
    for name, found in interpreted["cases"].items():
        normed = found["output"].view(-1, found["output"].shape[-1])
        assert not normed[1::5].any() and normed.any(), name


@needs_triton
def test_the_same_bits_come_twice(interpreted) -> None:
    for name, first in interpreted["cases"].items():
        second = interpreted["again"][name]
        assert all(v is None or torch.equal(v, second[k]) for k, v in first.items()), name


@needs_triton
def test_no_vectors_have_no_norm_and_weights_no_gradient(interpreted) -> None:
    found = interpreted["empty"]
    assert found["output"].shape == found["hidden"].shape == (0, 3)
    assert torch.equal(found["weight_H"], torch.zeros(3))


@needs_triton
def test_a_result_that_nobody_reads_has_no_part_in_the_gradients(interpreted) -> None:
    inputs = as_float64(Case((3, 5), added=torch.bfloat16, normed=torch.bfloat16).inputs())
    for which, name in enumerate(("sum", "norm")):
        leaves = {k: v.detach().requires_grad_() for k, v in inputs.items() if v is not None}
        add_and_normalize(**leaves, eps=1e-5)[which].sum().backward()
        for key, leaf in leaves.items():
            expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            actual = interpreted["gradients"][f"{name} {key}"]
            torch.testing.assert_close(actual.to(expected), expected, rtol=2e-2, atol=2e-2)


@needs_triton
def test_nothing_but_the_sum_is_kept_for_the_backward(interpreted) -> None:
    # Of each tensor of vectors one element, which says their dtypes; the plain form keeps roots.
    assert interpreted["kept"] == 4 + 2 < kept_bytes(add_and_normalize)


def of_kind(found: Tensors, cast: bool) -> Tensors:
    """What was computed under autocast, or all else."""
    chosen = {name: value for name, value in found.items() if name.startswith("cast ") == cast}
    assert len(chosen) > 10
    return chosen


@needs_triton
@pytest.mark.parametrize("cast", [False, True])
def test_a_model_of_kernels_is_the_plain_model_in_training_and_steps(
    interpreted, plain: None, cast: bool
) -> None:
    for name, settings in (("model", {}), ("attention", {"mixer": "attention"})):
        expected = of_kind(trained(False, **settings), cast)
        assert_close(of_kind(interpreted[name], cast), expected, 5e-2 if cast else 2e-5)


@needs_triton
@pytest.mark.parametrize("cast", [False, True])
def test_torch_compile_sees_one_graph_and_changes_nothing(interpreted, cast: bool) -> None:
    compiled, found = (of_kind(interpreted[key], cast) for key in ("compiled model", "model"))
    assert_close(compiled, {name: found[name] for name in compiled}, 2e-2 if cast else 1e-6)


@needs_triton
def test_activations_that_are_made_again_are_the_same(interpreted) -> None:
    again, kept = interpreted["checkpointed model"], interpreted["model"]
    # The interpreter cuts off what a GPU rounds, so under autocast its bits are others.
    assert_close(of_kind(again, True), of_kind(kept, True), 5e-2)
    again, kept = of_kind(again, False), of_kind(kept, False)
    assert all(torch.equal(again[name], value) for name, value in kept.items())


@needs_triton
def test_torch_accepts_the_operators(interpreted) -> None:
    said = interpreted["operators"]
    assert len(said) == 10 and set(said.values()) == {"SUCCESS"}, said


@needs_triton
def test_float64_is_left_to_the_plain_form() -> None:
    inputs = as_float64(CASES["float32"].inputs())
    for actual, expected in zip(
        triton_add_and_normalize(**inputs, eps=1e-5),
        add_and_normalize(**inputs, eps=1e-5),
        strict=True,
    ):
        assert actual.dtype == torch.float64 and torch.equal(actual, expected)


@pytest.mark.parametrize("cast", [False, True])
def test_without_a_gpu_it_is_torchs_own_norm_bit_for_bit(cast: bool) -> None:
    inputs = CASES["float32"].inputs()
    hidden, added, weight = (value.requires_grad_() for value in inputs.values())
    ours, torchs = ResidualNorm(40), nn.RMSNorm(40, eps=1e-5)
    for norm in (ours, torchs):
        with torch.no_grad():
            norm.weight.copy_(weight)
    found = []
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        both = hidden + added
        for total, normed in (ours(hidden, added), (both, torchs(both))):
            assert normed.dtype == torch.float32
            gradients = torch.autograd.grad((total * normed).sum(), (hidden, added))
            found.append((total, normed, *gradients))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert list(ours.state_dict()) == list(torchs.state_dict())
