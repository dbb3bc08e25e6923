"""The gated delta rule's kernels equal the recurrence in float64, interpreted without a GPU."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from tessera.model.scans.delta import chunked_delta_rule, delta_rule, triton_delta_rule
from tests.interpreted import found_by
from tests.model.delta_cases import CASES, arguments, results
from tests.model.dual_cases import relative_errors

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Triton's interpreter, which needs a process of its own, makes of the kernels."""
    file, parts = tmp_path_factory.mktemp("kernels") / "delta.pt", ("deltas", "delta operator")
    found: dict[str, Any] = found_by("tests.model.kernel_results", file, *parts)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_interpreted_rule_and_all_gradients_are_those_of_the_recurrence(
    name: str, interpreted: dict[str, Any]
) -> None:
    given = [tensor.double() for tensor in CASES[name].inputs()]
    errors = relative_errors(interpreted["deltas"][name], results(delta_rule, given))
    assert max(errors.values()) < TOLERANCES[CASES[name].dtype], errors


def test_torch_accepts_the_operator(interpreted: dict[str, Any]) -> None:
    said = interpreted["delta operator"]
    assert len(said) == 9 and set(said.values()) == {"SUCCESS"}, said


def test_more_digits_or_wider_keys_than_the_kernels_have_are_left_to_the_plain_form() -> None:
    given = arguments(3, with_state=True)
    for actual, expected in zip(triton_delta_rule(*given), chunked_delta_rule(*given), strict=True):
        assert actual.dtype == torch.float64 and torch.equal(actual, expected)
    wide = [tensor.float() for tensor in arguments(3, with_state=True, key=130)]
    assert torch.equal(triton_delta_rule(*wide)[0], chunked_delta_rule(*wide)[0])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90])
def test_the_kernels_compile_without_a_gpu(architecture: int) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 replaces the compiler")
    from tests.go.compile_kernels import has_assembler
    from tests.model.compile_kernels import compile_delta

    if not has_assembler():
        pytest.skip("this Triton brings no ptxas")
    for name, registers, spilled in compile_delta(architecture):
        # The state, its gradient and a chunk's vectors take all registers; some wait outside.
        assert 0 < registers <= 255 and spilled <= 1400, f"{name} spills {spilled} bytes"
