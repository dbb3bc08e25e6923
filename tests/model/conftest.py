"""Models whose parameters look trained, so that no test passes because everything is near zero."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from tessera.model import MambaModel
from tessera.model.scans import dual as dual_module

Lively = Callable[..., MambaModel]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tensors here are so small that a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what builds a lively model for every mixer that the test's module names in MIXERS."""
    mixers = getattr(metafunc.module, "MIXERS", None)
    if mixers and "lively" in metafunc.fixturenames:
        metafunc.parametrize("mixer", mixers)


@pytest.fixture
def mixer() -> str:
    """The kind of mixer that lively models have."""
    return "mamba"


@pytest.fixture
def lively(mixer: str) -> Lively:
    """Builds a MambaModel with logits of size 1 and a state that both remembers and forgets."""

    def build(
        vocab_size: int = 84, d_model: int = 24, n_layers: int = 1, scan: str = "auto"
    ) -> MambaModel:
        torch.manual_seed(d_model + n_layers)
        model = MambaModel(vocab_size, d_model, n_layers=n_layers, scan=scan, mixer=mixer)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn_like(parameter)
                if name.endswith(("A_log", ".D", "norm.weight")) or ".norms." in name:
                    parameter += 0.3 * noise
                elif name.endswith(("dt_proj.bias", "dt_bias")):
                    parameter += 2 + 0.3 * noise
                elif name.endswith(("x_proj.weight", "conv1d.weight")):
                    parameter *= 3
                elif name.endswith("conv1d.bias"):
                    parameter += 0.3 * noise
                elif name.startswith("head"):
                    parameter += noise * (4 if n_layers == 1 else 1) * d_model**-0.5
        return model

    return build


@pytest.fixture(scope="session")
def untuned_kernels() -> None:
    """mamba_ssm's Mamba-2 kernels in their smallest shape; to time all takes minutes."""
    found, problem = dual_module._find_dual_kernel()
    if found is None:
        pytest.skip(problem)
    from mamba_ssm import Mamba2  # noqa: F401  brings the rest of the kernels
    from triton.runtime.autotuner import Autotuner

    modules = [sys.modules[name] for name in sys.modules if name.startswith("mamba_ssm.ops.triton")]
    tuned = [value for module in modules for value in vars(module).values()]
    tuned = [value for value in tuned if isinstance(value, Autotuner)]
    assert tuned
    for kernel in tuned:
        kernel.configs = [min(kernel.configs, key=lambda config: math.prod(config.kwargs.values()))]
