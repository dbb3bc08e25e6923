"""The embedding's gradient as a product: plain, in Triton's interpreter, and on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.embedding import TokenEmbedding, _Lookup, one_hot_product, triton_product
from tests.model.conftest import Lively
from tests.model.embedding_cases import CASES, Case, lookup_gradient

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The gradients of ``CASES``, computed by the kernel in Triton's interpreter."""
    file = tmp_path_factory.mktemp("embedding") / "gradients.pt"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.model.embedding_cases", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter cannot loop under this NumPy")
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(file)


def assert_sums(actual: Tensor, case: Case, tolerance: float, cuts: bool = False) -> None:
    """The sums are in float32, and no element is further off than a part of the largest."""
    expected = case.expected(str(actual.device), cuts)
    assert actual.shape == expected.shape and actual.dtype == torch.float32
    worst = (actual - expected).abs().max()
    assert worst <= tolerance * expected.abs().max(), f"off by {worst:.2e}"


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_the_interpreted_gradient_is_torchs_in_float64(
    name: str, interpreted: dict[str, Tensor]
) -> None:
    assert_sums(interpreted[name], CASES[name], 1e-6, cuts=True)


@needs_triton
def test_where_triton_runs_a_lookup_takes_the_kernel(interpreted: dict[str, Tensor]) -> None:
    actual, rounded = interpreted["lookup"], lookup_gradient("one_hot_product")
    assert actual.dtype == rounded.dtype == torch.float32
    assert not actual[3].any() and actual[[0, 6]].all()
    # The plain product rounds its sums, the kernel does not.
    assert torch.equal(actual.bfloat16().float(), rounded) and not torch.equal(actual, rounded)


@pytest.mark.parametrize("name", CASES)
def test_the_plain_product_is_torchs_gradient_too(name: str) -> None:
    case = CASES[name]
    tokens, grad = case.inputs()
    actual = one_hot_product(tokens, grad, case.vocab_size, case.dtype)
    assert actual.dtype == case.dtype
    tolerance = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}[case.dtype]
    assert_sums(actual.float(), case, tolerance)


def test_the_product_is_the_gradient_of_a_lookup() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 7, (5, 9))
    weight = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 9, 4, dtype=torch.float64)
    expected = F.embedding(tokens, weight, padding_idx=3)
    (wanted,) = torch.autograd.grad(expected, weight, upstream)
    actual = _Lookup.apply(tokens, weight, 3, torch.float64, torch.float64)
    (gradient,) = torch.autograd.grad(actual, weight, upstream)
    assert torch.equal(actual, expected) and not gradient[3].any() and gradient[[0, 6]].all()
    torch.testing.assert_close(gradient, wanted)


def test_float64_and_no_tokens_are_left_to_the_plain_product() -> None:
    tokens, grad = torch.tensor([1, 0, 1]), torch.randn(3, 2, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        actual = triton_product(tokens, grad, 2, dtype)
        assert actual.dtype == dtype
        assert torch.equal(actual, one_hot_product(tokens, grad, 2, dtype))
    nothing = triton_product(tokens[:0], grad[:0].float(), 2, torch.float32)
    assert nothing.shape == (2, 2) and not nothing.any()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_vectors_come_in_the_dtype_that_was_asked_for(dtype: torch.dtype | None) -> None:
    embedding, tokens = TokenEmbedding(7, 4, padding_idx=3), torch.tensor([[1, 3, 1]])
    actual = embedding(tokens, dtype)
    assert actual.dtype == (dtype or torch.float32)
    assert torch.equal(actual, embedding.weight[tokens].to(actual.dtype))
    (gradient,) = torch.autograd.grad(actual.sum(), embedding.weight)
    assert gradient.dtype == torch.float32
    assert gradient[1].eq(2).all() and not gradient[3].any()


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_the_compiled_gradient_is_torchs_in_float64(name: str) -> None:
    # Tensor cores cut digits off where they add; the factors themselves are exact.
    case = CASES[name]
    assert_sums(triton_product(*case.inputs("cuda"), case.vocab_size, case.dtype), case, 5e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_gpu_it_is_the_same_bits_every_time_and_close_to_torchs(
    autocast: bool, dtype: torch.dtype | None
) -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(364, 256, padding_idx=362).cuda()
    # Most games begin with one token: many vectors for one row.
    tokens = torch.randint(0, 364, (4096, 64), device="cuda")
    tokens[::2, :8] = 363
    upstream = torch.randn(4096, 64, 256, device="cuda").to(dtype or torch.float32)

    def gradient() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            vectors = embedding(tokens, dtype)
        assert vectors.dtype == upstream.dtype
        return torch.autograd.grad(vectors, embedding.weight, upstream)[0]

    rounded = upstream.to(torch.bfloat16 if autocast else upstream.dtype)
    plain = F.embedding(tokens, embedding.weight.double(), padding_idx=362)
    (wanted,) = torch.autograd.grad(plain, embedding.weight, rounded.double())
    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(5))
    assert first.dtype == torch.float32 and not first[362].any()
    # The numbers that are added are exact, and so are their sums, to float32.
    error = (first - wanted).norm() / wanted.norm()
    assert error < 1e-5, error


@pytest.mark.gpu
@pytest.mark.parametrize("n_layers", [1, 3])
def test_vectors_are_rounded_early_only_where_no_bit_changes(lively: Lively, n_layers: int) -> None:
    model, seen = lively(d_model=64, n_layers=n_layers).cuda(), []
    model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    tokens = torch.randint(0, 80, (9, 33), device="cuda")
    tokens[:3, 20:] = model.pad_token
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(tokens)
        expected = model.head(model.mamba(model.embedding(tokens), tokens == model.pad_token))
    assert torch.equal(logits, expected)
    assert seen == [torch.bfloat16 if n_layers == 1 else torch.float32, torch.float32]
