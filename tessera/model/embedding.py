"""Looking up the vectors of tokens, with a gradient that is the same bits each time on a GPU too.

Shape suffixes: B games, L positions, T tokens (``B * L``), H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.accelerator import triton_obstacle


class TokenEmbedding(nn.Embedding):
    """``nn.Embedding``, whose gradient is a matrix product on a GPU.

    torch's own kernel adds the vectors of a token in an order that depends on timing. The product
    with one-hot rows does not; under autocast it is taken in autocast's dtype, like the gradients
    of all other weights.
    """

    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Vectors (B, L, H) of tokens (B, L).

        Args:
            tokens: (B, L) int64 or int32; any other shape will do.
            dtype: of the vectors, and so of their gradient; None means the weight's. The weight's
                gradient is a sum in float32 in either case.
        """
        dtype = dtype or self.weight.dtype
        if not tokens.is_cuda:
            return super().forward(tokens).to(dtype)
        factor = dtype
        if torch.is_autocast_enabled("cuda") and dtype != torch.float64:
            factor = torch.get_autocast_dtype("cuda")
        return _Lookup.apply(tokens, self.weight, self.padding_idx, dtype, factor)


class _Lookup(torch.autograd.Function):
    """The vectors in ``dtype``; their gradient is rounded to ``factor`` before the product."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        weight_VH: Tensor,
        padding_idx: int | None,
        dtype: torch.dtype,
        factor: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.vocab_size, ctx.weight_dtype = len(weight_VH), weight_VH.dtype
        ctx.padding_idx, ctx.factor = padding_idx, factor
        return F.embedding(tokens, weight_VH.to(dtype))

    @staticmethod
    def backward(ctx: Any, grad_BLH: Tensor) -> tuple[None, Tensor, None, None, None]:
        (tokens,) = ctx.saved_tensors
        product = one_hot_product
        if ctx.factor != torch.float64 and not triton_obstacle(tokens.device):
            product = triton_product
        grad_TH = grad_BLH.reshape(-1, grad_BLH.shape[-1])
        grad_VH = product(tokens.flatten(), grad_TH, ctx.vocab_size, ctx.factor)
        if ctx.padding_idx is not None:
            grad_VH[ctx.padding_idx] = 0
        return None, grad_VH.to(ctx.weight_dtype), None, None, None


def one_hot_product(tokens: Tensor, grad_TH: Tensor, vocab_size: int, dtype: torch.dtype) -> Tensor:
    """The sum of the gradients of each token, (V, H) in ``dtype``.

    This is the specification of the kernel.

    Args:
        tokens: (T,) int64 or int32.
        grad_TH: (T, H).
        vocab_size: V.
        dtype: what the gradients are rounded to before they are added, and the sums in the end.
    """
    one_hot_VT = grad_TH.new_zeros(vocab_size, len(tokens), dtype=dtype)
    one_hot_VT.scatter_(0, tokens.long()[None], 1)
    with torch.autocast(grad_TH.device.type, enabled=False):
        return one_hot_VT @ grad_TH.to(dtype)


def triton_product(tokens: Tensor, grad_TH: Tensor, vocab_size: int, dtype: torch.dtype) -> Tensor:
    """The same as ``one_hot_product``, by the Triton kernel, which leaves the sums in float32.

    float64, and no tokens at all, are left to the plain form.
    """
    if torch.float64 in (dtype, grad_TH.dtype) or not grad_TH.numel():
        return one_hot_product(tokens, grad_TH, vocab_size, dtype)
    from tessera.model.kernels.embedding import embedding_gradient

    return embedding_gradient(tokens, grad_TH, vocab_size, dtype)
