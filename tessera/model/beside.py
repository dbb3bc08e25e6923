"""What a batch holds beside tokens and targets, as one row of tensors and the names of them.

Shape suffixes: B games, L positions, N rows of the board, V ``vocab_size``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from tessera.model.contract import check_excluded, check_scores
from tessera.model.features.base import FeatureTables


class Beside(NamedTuple):
    """See ``GameModel.forward``, whose arguments these are.

    A CUDA graph takes tensors only: which of them there are is told by their names.
    """

    features: FeatureTables = ()
    scores: Tensor | None = None
    excluded: Tensor | None = None
    penalized: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What each of ``tensors`` is."""
        optional = (name for name in ("scores", "excluded") if getattr(self, name) is not None)
        asked = ("penalized",) if self.penalized else ()
        return (*("features" for _ in self.features), *optional, *asked)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those that there are."""
        optional = (tensor for tensor in (self.scores, self.excluded) if tensor is not None)
        return (*self.features, *optional)

    @classmethod
    def of(cls, names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> Beside:
        """The record of which these are the names and the tensors."""
        count = names.count("features")
        asked = names[-1:] == ("penalized",)
        optional = dict(zip(names[count : len(names) - asked], tensors[count:], strict=True))
        return cls(tensors[:count], **optional, penalized=asked)

    def check(self, tokens: Tensor, has_outcome: bool, vocab_size: int) -> None:
        """Raise ValueError unless scores and excluded points are what ``forward`` takes.

        Args:
            tokens: (B, L), checked before.
            has_outcome: whether the model has one.
            vocab_size: V.
        """
        if self.scores is not None:
            if not has_outcome:
                raise ValueError("scores must be None for a model without an outcome.")
            check_scores(self.scores, tokens)
        if self.excluded is not None:
            check_excluded(self.excluded, tokens, vocab_size)
