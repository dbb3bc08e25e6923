"""An embedding that knows a move by its kind alone, so that it is of a board of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tessera.model.embeddings import TokenEmbedding
from tessera.model.parts import PartSettings

_POINT, _PAD, _KINDS = 0, 2, 4  # and PASS between them, EOS behind


class KindEmbedding(TokenEmbedding):
    """One vector for all points, one for PASS, one for EOS; zero at PAD.

    Where on the board a move was is left to the features. No weight depends on the board's size.

    Args:
        vocab_size: tokens, n² + 3.
        d_model: width of a position's vector.
        pad_token: the token whose vector is zero; as in ``Vocabulary``.
    """

    can_be_tied: ClassVar[bool] = False  # points have one vector, and so would have one logit

    def __init__(self, vocab_size: int, d_model: int, pad_token: int) -> None:
        super().__init__(_KINDS, d_model, padding_idx=_PAD)
        self.num_points = pad_token - 1

    def forward(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """See ``Embedding.forward``."""
        return super().forward((tokens - self.num_points + 1).clamp(min=_POINT), dtype)


@dataclass(frozen=True)
class KindSettings(PartSettings):
    """``KindEmbedding`` has no settings."""

    part: ClassVar[type[nn.Module]] = KindEmbedding

    def num_parameters(self, vocab_size: int, d_model: int, pad_token: int) -> int:
        """Of the embedding."""
        return _KINDS * d_model
