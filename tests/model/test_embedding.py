"""The embedding's gradient as a matrix product, and the dtype of its vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model.embeddings import TokenEmbedding, _Lookup
from tests.model.conftest import Lively


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
    # Sums of rounded numbers are rounded once more.
    error = (first - wanted).norm() / wanted.norm()
    assert error < (1e-5 if rounded.dtype == torch.float32 else 4e-3), error


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
