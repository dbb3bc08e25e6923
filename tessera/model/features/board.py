"""The board as it stands, through a few convolutions.

Shape suffixes: B games, L positions, S sets of points, N rows of the board, T positions of all
games (``B * L``), C channels, H ``d_model``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tessera.model.board_convolution import BoardConvolution
from tessera.model.contract import check_sizes
from tessera.model.features.base import Encoded, Features, FeatureTables
from tessera.model.features.planes import NUM_PLANES, board_planes
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
        planes_TNNC = board_planes(
            sets_BLSN.flatten(0, 1), tokens_BL.flatten(), self._dtype(sets_BLSN.device.type)
        )
        map_TNNC = self.first(planes_TNNC)
        for convolution in self.rest:
            map_TNNC = convolution(map_TNNC, is_residual=True)
        added_TH = self.up(self.squeeze(map_TNNC).relu().flatten(1))
        added_BLH = added_TH.view(*tokens_BL.shape, -1).masked_fill(is_pad_BL[..., None], 0)
        return Encoded(added_BLH, map_TNNC), ()

    def _dtype(self, device: str) -> torch.dtype:
        weight = self.up.weight
        rounds = torch.is_autocast_enabled(device) and weight.dtype != torch.float64
        return torch.get_autocast_dtype(device) if rounds else weight.dtype


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
