"""The embedding's gradient as a matrix product."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tessera.model.embedding import TokenEmbedding, _Lookup


def test_the_product_is_the_gradient_of_a_lookup() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 7, (5, 9))
    weight = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 9, 4, dtype=torch.float64)
    expected = F.embedding(tokens, weight, padding_idx=3)
    (wanted,) = torch.autograd.grad(expected, weight, upstream)
    actual = _Lookup.apply(tokens, weight, 3, torch.float64)
    (gradient,) = torch.autograd.grad(actual, weight, upstream)
    assert torch.equal(actual, expected) and not gradient[3].any() and gradient[[0, 6]].all()
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_gpu_it_is_the_same_bits_every_time_and_close_to_torchs(autocast: bool) -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(364, 256, padding_idx=362).cuda()
    # Most games begin with one token: many vectors for one row.
    tokens = torch.randint(0, 364, (4096, 64), device="cuda")
    tokens[::2, :8] = 363
    upstream = torch.randn(4096, 64, 256, device="cuda")

    def gradient() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            vectors = embedding(tokens)
        return torch.autograd.grad(vectors, embedding.weight, upstream)[0]

    plain = F.embedding(tokens, embedding.weight.double(), padding_idx=362)
    (wanted,) = torch.autograd.grad(plain, embedding.weight, upstream.double())
    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(5))
    error = (first - wanted).norm() / wanted.norm()
    assert error < (1e-2 if autocast else 1e-5), error
