"""Sizes at which the embedding's gradient is computed by the kernel and in plain torch.

As a program it runs the kernel in Triton's interpreter on the CPU, and saves every gradient in the
file that its argument names.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model import embedding

HALF, BRAIN = torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Case:
    """Sizes of one gradient, its dtype, and ``dtype``, to which it is rounded before the sums."""

    tokens: int
    vocab_size: int
    width: int
    grad_dtype: torch.dtype = torch.float32
    dtype: torch.dtype = torch.float32
    token_dtype: torch.dtype = torch.int64
    gap: int = 0  # elements between the rows of the gradient
    is_turned: bool = False  # whether the rows are not contiguous at all

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Tokens (T,), a third of them the first of the vocabulary, and their gradients (T, H)."""
        generator = torch.Generator().manual_seed(self.tokens + self.width)
        tokens = torch.randint(0, self.vocab_size, (self.tokens,), generator=generator)
        tokens[::3] = 0
        tokens[-1:] = self.vocab_size - 1
        shape = (self.tokens, self.width + self.gap)
        shape = shape[::-1] if self.is_turned else shape
        grad = torch.randn(shape, generator=generator, dtype=torch.float64)
        grad = grad.to(device, self.grad_dtype)
        grad = grad.t() if self.is_turned else grad
        return tokens.to(device, self.token_dtype), grad[:, : self.width]

    def expected(self, device: str = "cpu", cuts: bool = False) -> Tensor:
        """The sums (V, H) in float64 of the rounded gradients, by torch itself.

        Triton's interpreter ``cuts`` the digits off that bfloat16 has no room for.
        """
        tokens, grad = self.inputs(device)
        if cuts and (self.grad_dtype, self.dtype) == (torch.float32, BRAIN):
            grad = (grad.view(torch.int32) & -(2**16)).view(torch.float32)
        weight = torch.zeros(self.vocab_size, self.width, dtype=torch.float64, device=device)
        vectors = F.embedding(tokens, weight.requires_grad_())
        rounded = grad.to(self.dtype).double()
        (sums,) = torch.autograd.grad(vectors, weight, rounded)
        return sums


# Tokens around the chunks, rows and columns that fill their blocks and that do not.
CASES = {
    "one-token": Case(1, 7, 8),
    "one-of-all": Case(3, 1, 1),
    "ragged": Case(131, 7, 8),
    "ragged-bfloat16": Case(131, 7, 8, BRAIN, BRAIN),
    "whole-blocks": Case(256, 128, 128, BRAIN, BRAIN),
    "more-blocks": Case(300, 131, 137, BRAIN, BRAIN),
    "more-blocks-float32": Case(65, 140, 37),
    "63-tokens": Case(63, 20, 16, BRAIN, BRAIN),
    "64-tokens": Case(64, 20, 16, BRAIN, BRAIN),
    "65-tokens": Case(65, 20, 16, BRAIN, BRAIN),
    "rounded": Case(70, 30, 24, torch.float32, BRAIN),
    "rounded-to-float16": Case(70, 30, 24, torch.float32, HALF),
    "float16": Case(70, 30, 24, HALF, HALF),
    "widened": Case(70, 30, 24, BRAIN, torch.float32),
    "int32": Case(70, 30, 24, token_dtype=torch.int32),
    "with-gaps": Case(70, 30, 24, BRAIN, BRAIN, gap=5),
    "turned": Case(70, 30, 24, is_turned=True),
}


def lookup_gradient(product: str) -> Tensor:
    """The gradient of a padded weight in float32, through vectors in bfloat16, on the CPU.

    Args:
        product: of ``tessera.model.embedding``, the one that is meant to be taken there.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 7, (5, 9), generator=generator)
    weight = torch.randn(7, 4, generator=generator).requires_grad_()
    upstream = torch.randn(5, 9, 4, generator=generator).bfloat16()
    taken: list[str] = []

    def record(*arguments: Any) -> Tensor:
        taken.append(product)
        return real(*arguments)

    real = getattr(embedding, product)
    with patch.object(embedding, product, record):
        vectors = embedding._Lookup.apply(tokens, weight, 3, torch.bfloat16, torch.bfloat16)
        (gradient,) = torch.autograd.grad(vectors, weight, upstream)
    assert taken == [product], f"{product} was not taken"
    return gradient


if __name__ == "__main__":
    from tessera.model.kernels.embedding import embedding_gradient

    torch.set_num_threads(1)
    gradients = {
        name: embedding_gradient(*case.inputs(), case.vocab_size, case.dtype)
        for name, case in CASES.items()
    }
    torch.save({**gradients, "lookup": lookup_gradient("triton_product")}, sys.argv[1])
