"""Looking up the vectors of tokens, with a gradient that is the same bits each time on a GPU too.

Shape suffixes: B games, L positions, T tokens (``B * L``), H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.parts import PartSettings


class Embedding(nn.Module, ABC):
    """Tokens in, vectors of d_model out; zero at PAD.

    Attributes:
        no_weight_decay: see ``Mixer``.
        can_be_tied: whether there is ``products``, which the head ``tied`` is made of.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ()
    can_be_tied: ClassVar[bool] = False

    @abstractmethod
    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Vectors (…, H) of tokens (…).

        Args:
            tokens: int64 or int32.
            dtype: of the vectors, and so of their gradient; None means the weights'.
        """

    def products(self, hidden: Tensor) -> Tensor:
        """The products (…, V) of vectors (…, H) with the vector of each token.

        Raises:
            TypeError: if it cannot be tied.
        """
        raise TypeError(f"{type(self).__name__} has no products.")


class TokenEmbedding(nn.Embedding, Embedding):
    """``nn.Embedding``, whose gradient is a matrix product on a GPU.

    torch's own kernel adds the vectors of a token in an order that depends on timing. The product
    with one-hot rows does not, and is faster in bfloat16; under autocast it is taken in
    autocast's dtype, like the gradients of all other weights.

    Args:
        vocab_size: tokens.
        d_model: width of a position's vector.
        padding_idx: the token whose vector is zero.
        frozen: whether training leaves the vectors as they were drawn.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("weight",)
    can_be_tied: ClassVar[bool] = True

    def __init__(
        self, vocab_size: int, d_model: int, padding_idx: int | None = None, frozen: bool = False
    ) -> None:
        super().__init__(vocab_size, d_model, padding_idx)
        self.weight.requires_grad_(not frozen)

    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """See ``Embedding.forward``."""
        return look_up(tokens, self.weight, self.padding_idx, dtype)

    def products(self, hidden: Tensor) -> Tensor:
        """See ``Embedding.products``."""
        return F.linear(hidden, self.weight)


def look_up(
    tokens: Tensor,
    weight_VH: Tensor,
    padding_idx: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The rows (…, H) of a table at tokens (…), whose gradient is the same bits each time.

    Args:
        tokens: int64 or int32.
        weight_VH: the table.
        padding_idx: the row that gets no gradient.
        dtype: of the rows, and so of their gradient; None means the table's.
    """
    dtype = dtype or weight_VH.dtype
    if not tokens.is_cuda:
        return F.embedding(tokens, weight_VH, padding_idx).to(dtype)
    product_dtype = dtype
    if torch.is_autocast_enabled("cuda") and dtype != torch.float64:
        product_dtype = torch.get_autocast_dtype("cuda")
    return _Lookup.apply(tokens, weight_VH, padding_idx, dtype, product_dtype)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        weight_VH: Tensor,
        padding_idx: int | None,
        dtype: torch.dtype,
        product_dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.vocab_size, ctx.weight_dtype = len(weight_VH), weight_VH.dtype
        ctx.padding_idx, ctx.product_dtype = padding_idx, product_dtype
        return F.embedding(tokens, weight_VH.to(dtype))

    @staticmethod
    def backward(ctx: Any, grad_BLH: Tensor) -> tuple[None, Tensor, None, None, None]:
        (tokens,) = ctx.saved_tensors
        grad_TH = grad_BLH.flatten(0, -2).to(ctx.product_dtype)
        one_hot_VT = grad_TH.new_zeros(ctx.vocab_size, len(grad_TH))
        one_hot_VT.scatter_(0, tokens.flatten().long()[None], 1)
        with torch.autocast("cuda", enabled=False):
            grad_VH = one_hot_VT @ grad_TH
        if ctx.padding_idx is not None:
            grad_VH[ctx.padding_idx] = 0
        return None, grad_VH.to(ctx.weight_dtype), None, None, None


@dataclass(frozen=True)
class TableSettings(PartSettings):
    """Settings of ``TokenEmbedding``.

    Args:
        frozen: whether training leaves the vectors as they were drawn, of the head tied too.
    """

    frozen: bool = False

    part = TokenEmbedding

    def num_parameters(self, vocab_size: int, d_model: int, pad_token: int) -> int:
        """Of the embedding."""
        return vocab_size * d_model
