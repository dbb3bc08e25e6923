"""The gated delta rule's kernels equal the recurrence in float64, interpreted without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.model.scans.delta import chunked_delta_rule, delta_rule, triton_delta_rule
from tests.model.delta_cases import CASES, arguments, results
from tests.model.dual_cases import relative_errors
from tests.runs import python_path

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
ROOT = Path(__file__).parents[2]
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Triton's interpreter, which needs a process of its own, makes of the kernels."""
    file = tmp_path_factory.mktemp("kernels") / "delta.pt"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": python_path(ROOT)}
    command = [sys.executable, "-m", "tests.model.kernel_results", str(file)]
    command += ["deltas", "delta operator"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter cannot loop under this NumPy")
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(file)


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
