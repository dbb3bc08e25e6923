"""A head that is the embedding: a token is as likely as its vector is like the last one.

Shape suffixes: T positions of all games, H ``d_model``, V ``vocab_size``.
Source: Press and Wolf, "Using the output embedding to improve language models" (arXiv:1608.05859).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tessera.model.embeddings import Embedding
from tessera.model.heads import Head, losses_of
from tessera.model.parts import PartSettings
from tessera.setting_errors import Problem, SettingError

_SCALE = 0.01  # as of the linear head: a new model predicts nearly uniformly


class TiedHead(Head):
    """Products with the vectors of the model's embedding, whatever these are made of.

    A gain for each number of a vector stands between: the embedding's vectors have the variance 1,
    and new logits that of a new linear head's. It does not depend on the embedding, whose weights
    are in the model once.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens.
        bias: whether every token has a bias. PAD's vector is zero, so without one its logit is 0.
    """

    def __init__(self, d_model: int, vocab_size: int, bias: bool = True) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((d_model,), _SCALE * d_model**-0.5))
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        # In a tuple, so that it is not a part of this one too; copies of a model keep it together.
        self._embedding: tuple[Embedding, ...] = ()

    def tie(self, embedding: Embedding, name: str) -> None:
        """Let these be the vectors.

        Args:
            embedding: of the same model.
            name: of it, as in the setting.

        Raises:
            SettingError: if it has no products.
        """
        if not embedding.can_be_tied:
            must = f"be another with embedding {name}, which has no vector for each token"
            raise SettingError(Problem("head", "tied", must))
        self._embedding = (embedding,)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (…, V) of vectors (…, H)."""
        (embedding,) = self._embedding
        logits = embedding.products(hidden * self.gain)
        return logits if self.bias is None else logits + self.bias

    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int, *maps: Tensor) -> Tensor:
        """See ``Head.losses``."""
        return losses_of(self(hidden_TH), targets_T, pad_token)


def tied(head: Head, embedding: Embedding, name: str) -> Head:
    """The head, tied to the embedding of this name if it is one that can be."""
    if isinstance(head, TiedHead):
        head.tie(embedding, name)
    return head


@dataclass(frozen=True)
class TiedSettings(PartSettings):
    """Settings of ``TiedHead``.

    Args:
        bias: whether every token has a bias of its own.
    """

    bias: bool = True

    part: ClassVar[type[nn.Module]] = TiedHead

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the head, without the embedding."""
        return d_model + self.bias * vocab_size
