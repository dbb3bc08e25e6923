"""A low-rank embedding: a narrow table, and one matrix that widens its vectors.

Shape suffixes: R rank, H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.contract import check_sizes
from tessera.model.embeddings import Embedding, TokenEmbedding
from tessera.model.parts import PartSettings
from tessera.setting_errors import SettingError, problems_of, whole

_SHARE = 4  # of d_model that the usual rank is, as in MUSE's phases 7 and 8


class LowRankEmbedding(Embedding):
    """A table of narrow vectors and a matrix without a bias, so that PAD stays zero.

    New vectors have the variance of a new table's, 1.

    Args:
        vocab_size: tokens.
        d_model: width of a position's vector.
        pad_token: the token whose vector is zero.
        rank: width of the table; 0 means ``d_model / 4``.

    Raises:
        SettingError: if ``rank`` is not a whole number of at least 0.
    """

    can_be_tied: ClassVar[bool] = True

    def __init__(self, vocab_size: int, d_model: int, pad_token: int, rank: int = 0) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        if problems := problems_of(SimpleNamespace(rank=rank), {"rank": whole(0)}):
            raise SettingError(*problems)
        rank = _rank(rank, d_model)
        self.narrow = TokenEmbedding(vocab_size, rank, padding_idx=pad_token)
        self.widen = nn.Linear(rank, d_model, bias=False)
        nn.init.normal_(self.widen.weight, std=rank**-0.5)

    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """See ``Embedding.forward``."""
        return self.widen(self.narrow(tokens)).to(dtype or self.narrow.weight.dtype)

    def products(self, hidden: Tensor) -> Tensor:
        """See ``Embedding.products``."""
        return F.linear(F.linear(hidden, self.widen.weight.mT), self.narrow.weight)


def _rank(rank: int, d_model: int) -> int:
    return rank or max(1, d_model // _SHARE)


@dataclass(frozen=True)
class LowRankTableSettings(PartSettings):
    """Settings of ``LowRankEmbedding``.

    Args:
        rank: width of the table; 0 for a quarter of d_model.
    """

    rank: int = 0

    part: ClassVar[type[nn.Module]] = LowRankEmbedding

    def num_parameters(self, vocab_size: int, d_model: int, pad_token: int) -> int:
        """Of the embedding."""
        return _rank(self.rank, d_model) * (vocab_size + d_model)
