"""A head per point: the last vector meets the map of the board.

Shape suffixes: T positions of all games, N rows of the board, C channels, H ``d_model``, V
``vocab_size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn

from tessera.model.board_convolution import BoardConvolution, scaled_linear, weights_of
from tessera.model.board_tower import board_code
from tessera.model.contract import check_sizes
from tessera.model.heads import Head, losses_of
from tessera.model.parts import PartSettings
from tessera.setting_errors import SettingError, problems_of, whole
from tessera.vocabulary import board_size_of

_SCALE = 0.01  # as of the linear head: a new model predicts nearly uniformly
_NO_POINTS = 3  # PASS, PAD and EOS


class PointHead(Head):
    """Each point's logit from the map around it and the vector; those of PASS and EOS from both.

    The vector is added to the map at every point, the same everywhere and, with ``decoded``, as
    channels of each point's own, so that a vector which holds a board can be seen as one;
    convolutions follow, and a 1×1 one gives the
    logits. PASS, PAD and EOS are read off the vector, the mean over the points, and the likeliest
    point's logit, which says whether there is a move.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens, n² + 3.
        map_channels: C, of the map.
        depth: 3×3 convolutions between the two.
        channels: of the head's own map, which a first convolution makes; 0 for the map as it is.
        decoded: channels that the vector says of every point by itself; 0 for none.

    Raises:
        SettingError: if ``depth`` is not a whole number of at least 1, or another size of at least
            0.
    """

    reads_map = True

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        map_channels: int,
        depth: int = 1,
        channels: int = 0,
        decoded: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(depth=depth)
        sizes = SimpleNamespace(channels=channels, decoded=decoded)
        if problems := problems_of(sizes, dict.fromkeys(vars(sizes), whole(0))):
            raise SettingError(*problems)
        self.board_size = board_size_of(vocab_size)
        self.first = BoardConvolution(map_channels, channels) if channels else nn.Identity()
        map_channels = channels or map_channels
        if decoded:
            self.board = nn.Linear(d_model, decoded * self.board_size**2)
            self.spread = nn.Linear(decoded, map_channels, bias=False)
        self.down = nn.Linear(d_model, map_channels)
        self.convolutions = nn.ModuleList(
            BoardConvolution(map_channels, map_channels) for _ in range(depth)
        )
        self.points = scaled_linear(map_channels, 1, _SCALE)
        self.others = scaled_linear(d_model + map_channels + 1, _NO_POINTS, _SCALE)

    def forward(self, hidden_TH: Tensor, map_TNNC: Tensor) -> Tensor:
        """Logits (…, V) of vectors (…, H) and the map of as many positions."""
        shape, hidden_TH = hidden_TH.shape[:-1], hidden_TH.flatten(0, -2)
        code = board_code(self.points.weight)
        map_TNNC, added_TC = self.first(map_TNNC), self.down(hidden_TH)
        if hasattr(self, "board"):
            size = self.board_size
            decoded = self.board(hidden_TH).relu().unflatten(1, (size, size, -1))
            met_TNNC = (map_TNNC + added_TC[:, None, None] + self.spread(decoded)).relu()
        else:
            met_TNNC = code.meet(map_TNNC, added_TC)
        *layers, points = weights_of(*self.convolutions, self.points)
        points_TP, mean_TC = code.read_points(met_TNNC, layers, points)
        others_T3 = self.others(torch.cat([hidden_TH, mean_TC, points_TP.amax(1, keepdim=True)], 1))
        return torch.cat([points_TP, others_T3], 1).view(*shape, -1)

    def losses(self, hidden_TH: Tensor, targets_T: Tensor, pad_token: int, *maps: Tensor) -> Tensor:
        """See ``Head.losses``."""
        return losses_of(self(hidden_TH, *maps), targets_T, pad_token)


@dataclass(frozen=True)
class PointSettings(PartSettings):
    """Settings of ``PointHead``.

    Args:
        depth: 3×3 convolutions over the map and the vector.
        channels: of the head's own map, which a first convolution makes; 0 for that of the
            features as it is.
        decoded: channels that the vector says of every point by itself; 0 for none. For features
            without the board, which then is what the vector holds.
    """

    depth: int = 1
    channels: int = 0
    decoded: int = 0

    part: ClassVar[type[nn.Module]] = PointHead

    def num_parameters(self, d_model: int, vocab_size: int, map_channels: int) -> int:
        """Of the head."""
        c = self.channels or map_channels
        convolutions = self.depth * (9 * c + 1) * c
        if self.channels:
            convolutions += (9 * map_channels + 1) * c
        if self.decoded:
            points = board_size_of(vocab_size) ** 2
            convolutions += self.decoded * (points * (d_model + 1) + c)
        return (d_model + 1) * c + convolutions + c + 1 + (d_model + c + 2) * _NO_POINTS
