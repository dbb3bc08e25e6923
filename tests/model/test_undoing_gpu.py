"""On a GPU: the gated delta rule's kernels against float64, and steps of mixers that undo."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tessera.model import GameModel, ModelSettings
from tessera.model.scans.delta import chunked_delta_rule, delta_rule, triton_delta_rule
from tests.model.delta_cases import Delta, results
from tests.model.dual_cases import relative_errors

pytestmark = pytest.mark.gpu

DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)], ids=str
)
MODELS: dict[str, dict[str, Any]] = {
    "gated_delta": {"gated_delta": {"num_heads": 2, "key_dim": 32, "value_dim": 48}},
    "rotating_mamba": {},
}


@DTYPES
@pytest.mark.parametrize("length", [1, 15, 16, 17, 128, 300])
@pytest.mark.parametrize("with_state", [False, True], ids=["new", "carried"])
def test_the_rule_and_all_gradients_equal_float64(
    length: int, with_state: bool, dtype: torch.dtype, tolerance: float
) -> None:
    case = Delta(length, with_state, 3, heads=4, key=64, value=64, dtype=dtype)
    given = case.inputs("cuda")
    expected = results(delta_rule, [tensor.double() for tensor in given])
    errors = relative_errors(results(triton_delta_rule, given), expected)
    assert max(errors.values()) < tolerance, errors


@pytest.mark.parametrize(("key", "value"), [(1, 1), (17, 40), (32, 32), (128, 64), (100, 128)])
def test_any_widths_equal_float64(key: int, value: int) -> None:
    given = Delta(37, True, 2, heads=2, key=key, value=value).inputs("cuda")
    expected = results(delta_rule, [tensor.double() for tensor in given])
    for rule in (triton_delta_rule, chunked_delta_rule):
        errors = relative_errors(results(rule, given), expected)
        assert max(errors.values()) < 1e-4, (rule, errors)


def test_the_same_bits_come_each_time_of_many_games() -> None:
    given = Delta(64, True, 700, heads=4, key=64, value=64, dtype=torch.bfloat16).inputs("cuda")
    first, again = (results(triton_delta_rule, given) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("mixer", MODELS)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_steps_in_place_are_the_plain_code_on_a_cpu(mixer: str, n_layers: int) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(84, 64, n_layers=n_layers, mixer=mixer, **MODELS[mixer])
    model = GameModel(settings)
    tokens = torch.randint(81, (5, 40))
    expected = model(tokens).detach()
    model.to("cuda")
    state, said = model.init_state(5), []
    is_new = torch.tensor([True] * 5, device="cuda")
    for token in tokens.to("cuda").unbind(1):
        said.append(model.step_in_place(token, state, is_new))
        is_new.zero_()
    torch.testing.assert_close(torch.stack(said, 1).cpu(), expected, atol=2e-3, rtol=0)
