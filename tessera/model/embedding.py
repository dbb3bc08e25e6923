"""Looking up the vectors of tokens, with a gradient that is the same bits each time on a GPU too.

Shape suffixes: B games, L positions, H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TokenEmbedding(nn.Embedding):
    """``nn.Embedding``, whose gradient is a matrix product on a GPU.

    torch's own kernel adds the vectors of a token in an order that depends on timing. The product
    with one-hot rows does not; under autocast it is taken in autocast's dtype, like the gradients
    of all other weights.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, L, H) of tokens (B, L)."""
        if not tokens.is_cuda:
            return super().forward(tokens)
        dtype = self.weight.dtype
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
        return _Lookup.apply(tokens, self.weight, self.padding_idx, dtype)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight_VH: Tensor, padding_idx: int | None, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.vocab_size, ctx.padding_idx, ctx.dtype = len(weight_VH), padding_idx, dtype
        return F.embedding(tokens, weight_VH)

    @staticmethod
    def backward(ctx: Any, grad_BLH: Tensor) -> tuple[None, Tensor, None, None]:
        (tokens,) = ctx.saved_tensors
        token_V1 = torch.arange(ctx.vocab_size, device=tokens.device)[:, None]
        is_token = (token_V1 == tokens.flatten()).to(ctx.dtype)
        with torch.autocast("cuda", enabled=False):
            grad_VH = is_token @ grad_BLH.flatten(0, -2).to(ctx.dtype)
        if ctx.padding_idx is not None:
            grad_VH[ctx.padding_idx] = 0
        return None, grad_VH.to(grad_BLH.dtype), None, None
