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
from tessera.setting_errors import Problem, SettingError, number, problems_of
from tessera.vocabulary import board_size_of

_WEIGHT = number("at least 0", lambda weight: 0 <= weight < math.inf)
_SCALE = 0.01  # a new model knows nothing: even chances, and no score


class Outcome(NamedTuple):
    """What is expected of the game's end; seen from the player to move.

    Attributes:
        win: (…,) float32, the probability of winning, 0 to 1.
        score: (…,) float32, the score in points.
        ownership: (…, N, N) float32, whose each point will be: 1 the player's to move, -1 the
            other's; None of a head that does not say it.
    """

    win: Tensor
    score: Tensor
    ownership: Tensor | None = None


class OutcomeHead(nn.Module):
    """Two layers over the vector and, if there is a map, its mean over the points.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens, n² + 3.
        map_channels: C, of the map; 0 if there is none.
        width: of the layer between.
        win_weight: of the loss of the win probability, beside that of the moves.
        score_weight: of the loss of the score.
        ownership_weight: of the loss of whose the points will be, which is read off each point of
            the map; with 0 it is not said.

    Raises:
        SettingError: if ``width`` is not a whole number of at least 1, a weight is negative, or
            there is no map that ownership could be read off.
    """

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        map_channels: int,
        width: int = 64,
        win_weight: float = 0.5,
        score_weight: float = 0.1,
        ownership_weight: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(width=width)
        weights = SimpleNamespace(
            win_weight=win_weight, score_weight=score_weight, ownership_weight=ownership_weight
        )
        if problems := problems_of(weights, dict.fromkeys(vars(weights), _WEIGHT)):
            raise SettingError(*problems)
        if ownership_weight and not map_channels:
            must = "be 0 for features without a map, which ownership is read off"
            raise SettingError(Problem("ownership_weight", ownership_weight, must))
        self.board_size = board_size_of(vocab_size)
        self.weights = (win_weight, score_weight)
        self.ownership_weight = ownership_weight
        self.up = nn.Linear(d_model + map_channels, width)
        self.down = scaled_linear(width, 2, _SCALE)
        if ownership_weight:
            self.owners = scaled_linear(map_channels, 1, _SCALE)

    def forward(self, hidden_TH: Tensor, *maps: Tensor) -> Outcome:
        """What is expected at vectors (…, H) and the map of as many positions, if there is one."""
        logits, scores = self.read(hidden_TH.flatten(0, -2), *maps)
        shape = hidden_TH.shape[:-1]
        owned = None
        if self.ownership_weight:
            # The tangent is the difference of the two chances of which this is the log-odds.
            owned = (self.owner_logits(*maps) / 2).tanh().unflatten(0, shape)
        return Outcome(logits.sigmoid().view(shape), (scores * self.board_size).view(shape), owned)

    def losses(self, hidden_TH: Tensor, scores_T: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropy (T,) of winning in nats, and the Huber loss (T,) of the score over N.

        A draw counts as half a win.

        Args:
            hidden_TH: (T, H).
            scores_T: (T,) float32, the score at the end, in points.
            maps: the map, if there is one.
        """
        logits_T, found_T = self.read(hidden_TH, *maps)
        wins_T = (scores_T.sign() + 1) / 2
        win = F.binary_cross_entropy_with_logits(logits_T, wins_T, reduction="none")
        return win, F.huber_loss(found_T, scores_T / self.board_size, reduction="none")

    def owner_logits(self, map_TNNC: Tensor) -> Tensor:
        """Log-odds (T, N, N) float32 that a point will be the player's to move."""
        return self.owners(map_TNNC).squeeze(-1).float()

    def read(self, hidden_TH: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
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
        ownership_weight: of the mean loss in nats of whose each point will be, which only games
            that a model plays itself have (objective expert_iteration); 0 for a head that does not
            say it.
    """

    width: int = 64
    win_weight: float = 0.5
    score_weight: float = 0.1
    ownership_weight: float = 0.0

    part: ClassVar[type[nn.Module]] = OutcomeHead
    free: ClassVar[tuple[str, ...]] = ("win_weight", "score_weight")

    def num_parameters(self, d_model: int, vocab_size: int, map_channels: int) -> int:
        """Of the two layers."""
        owners = map_channels + 1 if self.ownership_weight else 0
        return (d_model + map_channels + 1) * self.width + 2 * (self.width + 1) + owners
