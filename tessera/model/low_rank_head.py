"""A head of two factors: a narrow vector, and the logits of it.

Shape suffixes: T positions of all games, H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

from torch import Tensor, nn

from tessera.model.contract import check_sizes
from tessera.model.heads import Head, LinearHead
from tessera.model.parts import PartSettings
from tessera.setting_errors import SettingError, problems_of, whole

_SHARE, _LEAST = 32, 32  # of d_model that the usual rank is, and the lowest one: MUSE's standard


class LowRankHead(Head):
    """Two matrices with biases and nothing between them: the logits of all positions lie in an
    affine space of ``rank`` dimensions, which is little for a policy.

    New logits have the variance of a new linear head's.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens.
        rank: width between the two; 0 means ``d_model / 32``, but at least 32.

    Raises:
        SettingError: if ``rank`` is not a whole number of at least 0.
    """

    def __init__(self, d_model: int, vocab_size: int, rank: int = 0) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        if problems := problems_of(SimpleNamespace(rank=rank), {"rank": whole(0)}):
            raise SettingError(*problems)
        rank = _rank(rank, d_model)
        self.narrow = nn.Linear(d_model, rank)
        nn.init.normal_(self.narrow.weight, std=d_model**-0.5)
        nn.init.zeros_(self.narrow.bias)
        self.logits = LinearHead(rank, vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (…, V) of vectors (…, H)."""
        logits: Tensor = self.logits(self.narrow(hidden))
        return logits

    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int, *maps: Tensor) -> Tensor:
        """See ``Head.losses``."""
        return self.logits.losses(self.narrow(hidden_TH), targets_T, pad_token)


def _rank(rank: int, d_model: int) -> int:
    return rank or max(_LEAST, d_model // _SHARE)


@dataclass(frozen=True)
class LowRankLinearSettings(PartSettings):
    """Settings of ``LowRankHead``.

    Args:
        rank: width between the two matrices; 0 for d_model / 32, but at least 32.
    """

    rank: int = 0

    part: ClassVar[type[nn.Module]] = LowRankHead

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the head."""
        rank = _rank(self.rank, d_model)
        return (d_model + 1) * rank + (rank + 1) * vocab_size
