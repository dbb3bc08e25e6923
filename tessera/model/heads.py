"""Layers that turn the last vectors into logits of the next token.

Shape suffixes: T positions of all games, H ``d_model``, V ``vocab_size``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from tessera.model.losses import head_losses
from tessera.model.parts import HeadSettings

# Times d_model ** -0.5: logits of about a hundredth, so a new model predicts nearly uniformly.
_SCALE = 0.01


class Head(nn.Module, ABC):
    """Vectors of d_model in, logits of vocab_size out."""

    @abstractmethod
    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
        """The cross-entropy (T,) of each target in nats, at least float32; 0 where it is PAD.

        Args:
            hidden_TH: (T, H).
            targets_T: (T,) int64.
            pad_token: the target that is left out.
        """


class LinearHead(nn.Linear, Head):
    """One matrix and a bias; a new one starts within 0.05 nats of ln(vocab_size).

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens.
    """

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__(d_model, vocab_size)
        nn.init.normal_(self.weight, std=_SCALE * d_model**-0.5)
        nn.init.zeros_(self.bias)

    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int) -> Tensor:
        """See ``Head.losses`` and ``head_losses``."""
        return head_losses(hidden_TH, self.weight, self.bias, targets_T, pad_token)


@dataclass(frozen=True)
class LinearSettings(HeadSettings):
    """``LinearHead`` has no settings."""

    def build(self, d_model: int, vocab_size: int) -> LinearHead:
        """The head."""
        return LinearHead(d_model, vocab_size)

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the head."""
        return (d_model + 1) * vocab_size
