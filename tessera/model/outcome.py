"""Who will win, and by how much, as the player to move sees it at every position.

Shape suffixes: T positions of all games, N rows of the board, C channels, H ``d_model``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.board_convolution import scaled_linear
from tessera.model.contract import check_sizes
from tessera.model.parts import PartSettings
from tessera.setting_errors import SettingError, number, problems_of
from tessera.vocabulary import board_size_of

_WEIGHT = number("at least 0", lambda weight: 0 <= weight < math.inf)
_SCALE = 0.01  # a new model knows nothing: even chances, and no score


class Outcome(NamedTuple):
    """What is expected of the game's end; seen from the player to move.

    Attributes:
        win: (…,) float32, the probability of winning, 0 to 1.
        score: (…,) float32, the score in points.
    """

    win: Tensor
    score: Tensor


class OutcomeHead(nn.Module):
    """Two layers over the vector and, if there is a map, its mean over the points.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens, n² + 3.
        map_channels: C, of the map; 0 if there is none.
        width: of the layer between.
        win_weight: of the loss of the win probability, beside that of the moves.
        score_weight: of the loss of the score.

    Raises:
        SettingError: if ``width`` is not a whole number of at least 1, or a weight is negative.
    """

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        map_channels: int,
        width: int = 64,
        win_weight: float = 0.5,
        score_weight: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(width=width)
        weights = SimpleNamespace(win_weight=win_weight, score_weight=score_weight)
        if problems := problems_of(weights, dict.fromkeys(vars(weights), _WEIGHT)):
            raise SettingError(*problems)
        self.board_size = board_size_of(vocab_size)
        self.weights = (win_weight, score_weight)
        self.up = nn.Linear(d_model + map_channels, width)
        self.down = scaled_linear(width, 2, _SCALE)

    def forward(self, hidden_TH: Tensor, *maps: Tensor) -> Outcome:
        """What is expected at vectors (…, H) and the map of as many positions, if there is one."""
        logits, scores = self._read(hidden_TH.flatten(0, -2), *maps)
        shape = hidden_TH.shape[:-1]
        return Outcome(logits.sigmoid().view(shape), (scores * self.board_size).view(shape))

    def losses(self, hidden_TH: Tensor, scores_T: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy (T,) of winning in nats, and the Huber loss (T,) of the score over N.

        A draw counts as half a win.

        Args:
            hidden_TH: (T, H).
            scores_T: (T,) float32, the score at the end, in points.
            maps: the map, if there is one.
        """
        logits_T, found_T = self._read(hidden_TH, *maps)
        wins_T = (scores_T.sign() + 1) / 2
        win = F.binary_cross_entropy_with_logits(logits_T, wins_T, reduction="none")
        return win, F.huber_loss(found_T, scores_T / self.board_size, reduction="none")

    def _read(self, hidden_TH: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of winning, and the score over N; (T,) float32 both."""
        pooled = [each.mean((1, 2)) for each in maps]
        found_T2 = self.down(self.up(torch.cat([hidden_TH, *pooled], 1)).relu()).float()
        logits_T, scores_T = found_T2.unbind(1)
        return logits_T, scores_T


@dataclass(frozen=True)
class OutcomeSettings(PartSettings):
    """Settings of ``OutcomeHead``.

    Args:
        width: of the layer between.
        win_weight: of the loss of the win probability in nats, beside that of the moves.
        score_weight: of the loss of the score over n.
    """

    width: int = 64
    win_weight: float = 0.5
    score_weight: float = 0.1

    part: ClassVar[type[nn.Module]] = OutcomeHead
    free: ClassVar[tuple[str, ...]] = ("win_weight", "score_weight")

    def num_parameters(self, d_model: int, vocab_size: int, map_channels: int) -> int:
        """Of the two layers."""
        return (d_model + map_channels + 1) * self.width + 2 * (self.width + 1)
