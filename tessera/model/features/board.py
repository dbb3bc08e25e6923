"""The board as it stands, through a few convolutions.

Shape suffixes: B games, L positions, S sets of points, N rows of the board, T positions of all
games (``B * L``), C channels, H ``d_model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tessera.model.board_convolution import (
    BoardConvolution,
    convolve,
    rounded_dtype,
    scaled_linear,
    weights_of,
)
from tessera.model.board_tower import Weights, board_code
from tessera.model.contract import check_sizes
from tessera.model.features.base import Encoded, Features, FeatureTables
from tessera.model.features.planes import NUM_PLANES, unpacked
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState
from tessera.setting_errors import Problem, SettingError, one_of, whole
from tessera.vocabulary import board_size_of

Summary: TypeAlias = Literal["points", "pooled"]
_POOLED = 2  # the mean of the points, and that of the last move
_SCALE = 0.1  # of a pooled bias in a new model, beside the map that it is added to
_OVERALL = 2  # what a pooled bias is made of: the mean of the points, and the greatest of them


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
        summary: ``points``, all points side by side, or ``pooled``, their mean and the point of the
            last move, which no weight ties to a board of this size.
        colour: whether a plane tells that white is to move, see ``go.features.POSITION_SETS``.
        pooled: after every so many residual convolutions the whole board tells each point of
            itself; 0 for never.
        adds: whether there is a vector that is added; if not, there is the map alone.

    Raises:
        SettingError: if a size is not a whole number of at least 1, ``pooled`` of at least 0, or
            ``summary`` is another.
    """

    nothing: Tensor
    no_bias: Tensor

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        channels: int = 32,
        depth: int = 4,
        squeeze: int = 8,
        summary: Summary = "points",
        colour: bool = False,
        pooled: int = 0,
        adds: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, depth=depth, squeeze=squeeze)
        one_of(*get_args(Summary))("summary", summary)
        whole(0)("pooled", pooled)
        if type(colour) is not bool:
            raise SettingError(Problem("colour", colour, "be true or false"))
        self.summary, self.d_model = summary, d_model
        self.has_colour, self.pooled = colour, pooled
        self.table, self.num_sets = ("position", 6) if colour else ("board", 5)
        self.board_size, self.map_channels = board_size_of(vocab_size), channels
        self.first = BoardConvolution(NUM_PLANES + colour, channels)
        self.rest = nn.ModuleList(BoardConvolution(channels, channels) for _ in range(depth))
        self.overall = nn.ModuleList(
            scaled_linear(_OVERALL * channels, channels, _SCALE)
            for _ in range(_times(depth, pooled))
        )
        self.squeeze = self.up = None
        if not adds:
            # The kernel squeezes a map whatever is made of that.
            self.register_buffer("nothing", torch.zeros(1, channels), persistent=False)
            self.register_buffer("no_bias", torch.zeros(1), persistent=False)
            return
        self.squeeze = nn.Linear(channels, squeeze)
        num_points = self.board_size**2 if summary == "points" else _POOLED
        self.up = nn.Linear(squeeze * num_points, d_model)

    def encode(
        self, tables: FeatureTables, tokens_BL: Tensor, is_pad_BL: Tensor, state: LayerState | None
    ) -> tuple[Encoded, LayerState]:
        """See ``Features.encode``; at PAD the map is that of an empty board."""
        sets_BLSN = tables[0].masked_fill(is_pad_BL[..., None, None], 0)
        weight = self.first.weight
        code = board_code(weight)
        sets_TSN = sets_BLSN.flatten(0, 1)
        planes_TNNC = code.planes(sets_TSN[:, :5], tokens_BL.flatten(), rounded_dtype(weight))
        if self.has_colour:
            white_TNN1 = unpacked(sets_TSN[:, 5]).to(planes_TNNC.dtype)[..., None]
            more_TNNC = planes_TNNC[..., NUM_PLANES + 1 :]  # zeros, where kernels want 16
            planes_TNNC = torch.cat([planes_TNNC[..., :NUM_PLANES], white_TNN1, more_TNNC], -1)
        layers = weights_of(self.first, *self.rest)
        squeeze = weights_of(self.squeeze)[0] if self.squeeze else (self.nothing, self.no_bias)
        if self.pooled:
            map_TNNC = self._pooled_map(planes_TNNC, layers)
            squeezed_TNNS = F.linear(map_TNNC, *(each.to(map_TNNC.dtype) for each in squeeze))
        else:
            map_TNNC, squeezed_TNNS = code.tower(planes_TNNC, layers, squeeze)
        if self.up is None:
            added_BLH = weight.new_zeros(*tokens_BL.shape, self.d_model)
            return Encoded(added_BLH, map_TNNC), ()
        added_TH = self.up(self._summed(squeezed_TNNS.relu(), tokens_BL.flatten()))
        added_BLH = added_TH.view(*tokens_BL.shape, -1).masked_fill(is_pad_BL[..., None], 0)
        return Encoded(added_BLH, map_TNNC), ()

    def _pooled_map(self, planes_TNNC: Tensor, layers: Sequence[Weights]) -> Tensor:
        """The map (T, N, N, C) of convolutions between which the whole board is told to each point.

        Source: Wu, "Accelerating self-play learning in Go" (2019), 3.1.1, with the map itself where
        KataGo pools channels of their own.
        """
        code = board_code(self.first.weight)
        first, *others = layers
        weight, bias = first
        # Where kernels made 16 planes, the last ones are zeros.
        weight = F.pad(weight, (0, 0, 0, 0, 0, planes_TNNC.shape[3] - weight.shape[1]))
        map_TNNC = convolve(planes_TNNC, (weight, bias))
        for index, layer in enumerate(others, 1):
            map_TNNC = convolve(map_TNNC, layer, is_residual=True)
            if index % self.pooled == 0:
                whole_T2C = torch.cat([map_TNNC.mean((1, 2)), map_TNNC.amax((1, 2))], 1)
                added_TC = self.overall[index // self.pooled - 1](whole_T2C)
                map_TNNC = code.meet(map_TNNC, added_TC.to(map_TNNC.dtype))
        return map_TNNC

    def _summed(self, squeezed_TNNS: Tensor, tokens_T: Tensor) -> Tensor:
        """The numbers (T, …) of which a position's vector is made."""
        squeezed_TPS = squeezed_TNNS.flatten(1, 2)
        if self.summary == "points":
            return squeezed_TPS.flatten(1)
        last_T1 = tokens_T.long().clamp(max=squeezed_TPS.shape[1] - 1)[:, None]
        at_last_TS = squeezed_TPS.gather(
            1, last_T1[..., None].expand(-1, 1, squeezed_TPS.shape[2])
        ).squeeze(1)
        is_point_T1 = (tokens_T < squeezed_TPS.shape[1])[:, None]
        return torch.cat([squeezed_TPS.mean(1), at_last_TS * is_point_T1], 1)


def _times(depth: int, pooled: int) -> int:
    """How often the whole board is told."""
    return depth // pooled if pooled else 0


@dataclass(frozen=True)
class BoardSettings(PartSettings):
    """Settings of ``BoardFeatures``.

    Args:
        channels: of the map that the convolutions make.
        depth: residual 3×3 convolutions.
        squeeze: channels of the map of which the vector is made that is added to the embedding.
        summary: what that vector is made of: points (all of them, so of this size of board) or
            pooled (their mean and the last move's point, so of any board).
        colour: let a plane tell whether white is to move, which komi makes worth knowing; a
            sequence tells it by itself.
        pooled: after every so many residual convolutions add to each point what the mean and the
            greatest values of the whole board say; 0 for never.
        adds: whether there is such a vector; if not, nothing but a head that reads maps sees the
            board, and the mixer knows the moves alone.
    """

    channels: int = 32
    depth: int = 4
    squeeze: int = 8
    summary: Summary = "points"
    colour: bool = False
    pooled: int = 0
    adds: bool = True

    part: ClassVar[type[nn.Module]] = BoardFeatures

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the convolutions and the two matrices."""
        c, s = self.channels, self.squeeze
        convolutions = (9 * (NUM_PLANES + self.colour) + 1) * c + self.depth * (9 * c + 1) * c
        convolutions += _times(self.depth, self.pooled) * (_OVERALL * c + 1) * c
        if not self.adds:
            return convolutions
        points = board_size_of(vocab_size) ** 2 if self.summary == "points" else _POOLED
        return convolutions + (c + 1) * s + (s * points + 1) * d_model
