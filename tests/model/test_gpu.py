"""mamba_ssm's kernel against the plain scan, on a GPU with mamba_ssm installed."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tessera.model import MambaMixer, MambaModel, MambaStateCapture
from tessera.model.scans import selective as scan_module

pytestmark = pytest.mark.gpu

LAYERS = pytest.mark.parametrize("n_layers", [1, 3])


@pytest.fixture(autouse=True)
def kernel() -> None:
    found, problem = scan_module._find_mamba_ssm()
    if found is None:
        pytest.skip(f"needs mamba_ssm: {problem}")


def pair(lively, n_layers: int) -> tuple[MambaModel, MambaModel]:
    """The same parameters over the kernel and over the plain scan."""
    fused = lively(d_model=64, n_layers=n_layers, scan="mamba_ssm").cuda()
    plain = lively(d_model=64, n_layers=n_layers, scan="torch").cuda()
    return fused, plain


def random_tokens(games: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(0, 82, (games, length), generator=generator)
    tokens[0, length // 2 :] = 82
    return tokens.cuda()


def gradients(model: MambaModel, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits = model(tokens)[:, :-1].flatten(0, 1).float()
    F.cross_entropy(logits, tokens[:, 1:].flatten(), ignore_index=82).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


@LAYERS
@pytest.mark.parametrize("length", [1, 63, 64, 65, 257])
def test_the_kernel_equals_the_plain_scan_in_float32(lively, n_layers: int, length: int) -> None:
    fused, plain = pair(lively, n_layers)
    tokens = random_tokens(3, length)
    torch.testing.assert_close(fused(tokens), plain(tokens), rtol=1e-4, atol=1e-4)
    if length > 1:
        expected = gradients(plain, tokens)
        for name, gradient in gradients(fused, tokens).items():
            assert relative_error(gradient, expected[name]) < 1e-4, name


@LAYERS
def test_the_kernel_equals_the_plain_scan_in_bfloat16(lively, n_layers: int) -> None:
    fused, plain = pair(lively, n_layers)
    tokens = random_tokens(3, 64)
    with torch.autocast("cuda", torch.bfloat16):
        assert relative_error(fused(tokens).float(), plain(tokens).float()) < 2e-2
        expected = gradients(plain, tokens)
        actual = gradients(fused, tokens)
    for name, gradient in actual.items():
        assert relative_error(gradient, expected[name]) < 2e-2, name


@LAYERS
@torch.no_grad()
def test_stepping_equals_the_kernel_at_every_ply(lively, n_layers: int) -> None:
    fused, _ = pair(lively, n_layers)
    tokens = random_tokens(3, 100)
    with MambaStateCapture(fused) as capture:
        whole = fused(tokens)
        captured = capture.states
    _, state = fused.prefill(tokens[:, :30])
    for ply in range(30, 100):
        logits, state = fused.step(tokens[:, ply], state)
        torch.testing.assert_close(logits, whole[:, ply], rtol=1e-3, atol=1e-3)
    for own, layer in zip(captured, state.layers, strict=True):
        torch.testing.assert_close(own, layer.ssm, rtol=1e-3, atol=1e-3)


def test_a_state_dict_goes_to_mamba_ssm_and_back_with_equal_outputs() -> None:
    from mamba_ssm import Mamba

    torch.manual_seed(0)
    ours, theirs = MambaMixer(64, scan="torch").cuda(), Mamba(64).cuda()
    theirs.load_state_dict(ours.state_dict())
    hidden = torch.randn(3, 40, 64, device="cuda")
    torch.testing.assert_close(ours(hidden), theirs(hidden), rtol=1e-4, atol=1e-4)
    again = MambaMixer(64).cuda()
    again.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(again(hidden), theirs(hidden), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in ours.state_dict().items())
