"""The board as it stands, through a few convolutions.

Shape suffixes: B games, L positions, S sets of points, N rows of the board, T positions of all
games (``B * L``), C channels, H ``d_model``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from tessera.model.board_convolution import BoardConvolution, rounded_dtype, weights_of
from tessera.model.board_tower import board_code
from tessera.model.contract import check_sizes
from tessera.model.features.base import Encoded, Features, FeatureTables
from tessera.model.features.planes import NUM_PLANES
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState
from tessera.vocabulary import board_size_of


class BoardFeatures(Features):
    """Planes of the board, see ``board_planes``, a convolution and residual convolutions of them.

    The map is what comes out. Squeezed to a few channels and made one vector, it is added to the
    token's embedding, so that the sequence mixer knows the board too.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens, n² + 3.
        channels: of the map.
        depth: residual convolutions.
        squeeze: channels of which the vector is made.

    Raises:
        SettingError: if a size is not a whole number of at least 1.
    """

    table = "board"
    num_sets = 5

    def __init__(
        self, d_model: int, vocab_size: int, channels: int = 32, depth: int = 4, squeeze: int = 8
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, depth=depth, squeeze=squeeze)
        self.board_size, self.map_channels = board_size_of(vocab_size), channels
        self.first = BoardConvolution(NUM_PLANES, channels)
        self.rest = nn.ModuleList(BoardConvolution(channels, channels) for _ in range(depth))
        self.squeeze = nn.Linear(channels, squeeze)
        self.up = nn.Linear(squeeze * self.board_size**2, d_model)

    def encode(
        self, tables: FeatureTables, tokens_BL: Tensor, is_pad_BL: Tensor, state: LayerState | None
    ) -> tuple[Encoded, LayerState]:
        """See ``Features.encode``; at PAD the map is that of an empty board."""
        sets_BLSN = tables[0].masked_fill(is_pad_BL[..., None, None], 0)
        weight = self.up.weight
        code = board_code(weight)
        planes_TNNC = code.planes(
            sets_BLSN.flatten(0, 1), tokens_BL.flatten(), rounded_dtype(weight)
        )
        *layers, squeeze = weights_of(self.first, *self.rest, self.squeeze)
        map_TNNC, squeezed_TNNS = code.tower(planes_TNNC, layers, squeeze)
        added_TH = self.up(squeezed_TNNS.relu().flatten(1))
        added_BLH = added_TH.view(*tokens_BL.shape, -1).masked_fill(is_pad_BL[..., None], 0)
        return Encoded(added_BLH, map_TNNC), ()


@dataclass(frozen=True)
class BoardSettings(PartSettings):
    """Settings of ``BoardFeatures``.

    Args:
        channels: of the map that the convolutions make.
        depth: residual 3×3 convolutions.
        squeeze: channels of the map of which the vector is made that is added to the embedding.
    """

    channels: int = 32
    depth: int = 4
    squeeze: int = 8

    part: ClassVar[type[nn.Module]] = BoardFeatures

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the convolutions and the two matrices."""
        c, s, points = self.channels, self.squeeze, board_size_of(vocab_size) ** 2
        convolutions = (9 * NUM_PLANES + 1) * c + self.depth * (9 * c + 1) * c
        return convolutions + (c + 1) * s + (s * points + 1) * d_model
