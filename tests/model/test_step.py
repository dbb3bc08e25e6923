"""A step in place is the step: in plain torch, in the kernels' interpreter, and on a GPU."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from tests.interpreted import begun
from tests.model.conftest import Lively
from tests.model.step_cases import compare, compare_mamba2

MIXERS = ("mamba", "mamba2")  # what a lively model has in the tests below


def follow(model: torch.nn.Module, device: str, tolerance: float) -> None:
    """Step through games that begin at different plies, and compare with new games' steps."""
    generator = torch.Generator().manual_seed(1)
    state = model.init_state(5)
    plain = model.init_state(5)
    for ply in range(30):
        tokens = torch.randint(0, 80, (5,), generator=generator).to(device)
        is_new = (torch.arange(5) * 7 == ply % 28).to(device) | (ply == 0)
        with torch.no_grad():
            expected, plain = model.step(tokens, plain.reset(is_new))
        found = model.step_in_place(tokens, state, is_new)
        assert torch.allclose(found, expected, atol=tolerance)
        for own, other in zip(state.layers, plain.layers, strict=True):
            assert torch.allclose(own.ssm, other.ssm, atol=tolerance)
            assert torch.allclose(own.conv, other.conv, atol=tolerance)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_step_in_place_is_a_step(lively: Lively, n_layers: int) -> None:
    follow(lively(n_layers=n_layers), "cpu", 1e-5)


def test_the_state_of_other_games_is_refused(lively: Lively) -> None:
    model = lively()
    with pytest.raises(ValueError, match="must hold the games of tokens, 2, got 3"):
        model.step_in_place(torch.zeros(2).long(), model.init_state(3), torch.ones(2).bool())


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_interpreted_steps_are_those_of_the_plain_code() -> None:
    process = begun("tests.model.step_cases")
    printed, said = process.communicate()
    assert process.returncode == 0, said[-4000:]
    differences = [float(line) for line in printed.split()]
    assert len(differences) == 5 and max(differences) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_compiled_steps_are_those_of_the_plain_code(dtype: torch.dtype, bound: float) -> None:
    for channels, states in ((512, 16), (40, 12), (70, 3)):
        assert compare("cuda", dtype, games=100, channels=channels, states=states) < bound


@pytest.mark.gpu
def test_compiled_steps_of_mamba2_are_those_of_the_plain_code() -> None:
    for d_model, headdim in ((256, 64), (12, 8), (5, 1)):
        assert compare_mamba2("cuda", games=100, d_model=d_model, headdim=headdim) < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_step_in_place_on_a_gpu_is_a_step(lively: Lively, n_layers: int) -> None:
    follow(lively(n_layers=n_layers).cuda(), "cuda", 1e-4)
