"""Sparse events of a game, and a memory of them that nothing fades.

Shape suffixes: B games, L positions, S sets of points, N rows of the board, P = N² points, K kinds
of events, C channels, H ``d_model``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tessera.model.contract import check_features
from tessera.model.features.base import Encoded, Features, FeatureTables
from tessera.model.features.planes import unpacked
from tessera.model.parts import PartSettings
from tessera.model.state import LayerState
from tessera.vocabulary import board_size_of

_SETS = 3  # taken, forbidden, large_atari
_KINDS = _SETS + 1  # and a ko that is closed
_PLANES = _KINDS + 2 * _SETS + 1  # the events, the memory of both colours, and the last move
_LARGE = 5  # stones that one move takes
_SCALE = 0.25  # few of the inputs are not 0


class LandmarkState(NamedTuple):
    """What a game has seen up to a position, as the player to move there sees it.

    Attributes:
        counts: (B, 2, 3, N, N) float32, how often each point was in each set, of the player to move
            and of the other.
    """

    counts: Tensor


class LandmarkFeatures(Features):
    """Events at the ply where they happen, and how often each has happened at each point.

    The events: own stones that the last move took, and whether these are many; points that ko or
    superko forbids now, which is a ko taken; a move on a point where that was so, which is a ko
    closed; own chains that the last move put in atari, if they are large. A recurrence forgets what
    it cannot undo; these counts are sums, of both colours, so they hold however long ago it was,
    beyond the window too. Nothing else of the board is known. The map is these numbers themselves.

    Args:
        d_model: width of a position's vector.
        vocab_size: tokens, n² + 3.
    """

    table = "landmarks"
    num_sets = _SETS
    map_channels = _PLANES

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.board_size = board_size_of(vocab_size)
        self.up = nn.Linear(_PLANES * self.board_size**2 + 1, d_model, bias=False)
        nn.init.normal_(self.up.weight, std=_SCALE)

    def init_state(
        self, batch_size: int, device: torch.device | str | None = None
    ) -> LandmarkState:
        """See ``Features.init_state``."""
        shape = (batch_size, 2, _SETS, self.board_size, self.board_size)
        return LandmarkState(torch.zeros(shape, device=device or self.up.weight.device))

    def begun(self, rows: Tensor) -> FeatureTables:
        """See ``Features.begun``."""
        return rows, self.init_state(len(rows), rows.device).counts.int()

    def encode(
        self, tables: FeatureTables, tokens_BL: Tensor, is_pad_BL: Tensor, state: LayerState | None
    ) -> tuple[Encoded, LayerState]:
        """See ``Features.encode``."""
        rows_BLSN, before_B2SNN = tables
        size, games = self.board_size, len(tokens_BL)
        events_BLSNN = unpacked(rows_BLSN).float().masked_fill(is_pad_BL[..., None, None, None], 0)
        counts_B2SNN = before_B2SNN.float() if state is None else state[0] + before_B2SNN.float()
        # Plies of the same player to move as before the first position, and those of the other.
        is_odd_BL = (~is_pad_BL).cumsum(1) % 2 == 1
        parity_BL11 = is_odd_BL[..., None, None, None]
        # In whole numbers, of which a GPU's sums are the same each time and in any order.
        even = events_BLSNN.masked_fill(parity_BL11, 0).cumsum(1, dtype=torch.int32)
        odd = events_BLSNN.masked_fill(~parity_BL11, 0).cumsum(1, dtype=torch.int32)
        even, odd = even + counts_B2SNN[:, None, 0], odd + counts_B2SNN[:, None, 1]
        own_BLSNN = torch.where(parity_BL11, odd, even)
        other_BLSNN = torch.where(parity_BL11, even, odd)

        places = torch.arange(size**2, device=tokens_BL.device, dtype=tokens_BL.dtype)
        last_BLNN = (tokens_BL[..., None] == places).unflatten(2, (size, size))
        had_ko_BLNN = (own_BLSNN + other_BLSNN - events_BLSNN)[:, :, 1] > 0
        more_BL2NN = torch.stack([last_BLNN & had_ko_BLNN, last_BLNN], 2)
        planes = torch.cat([events_BLSNN, own_BLSNN, other_BLSNN, more_BL2NN.float()], 2)
        is_large_BL1 = events_BLSNN[:, :, 0].sum((2, 3))[..., None] >= _LARGE

        planes = planes.masked_fill(is_pad_BL[..., None, None, None], 0)
        added_BLH = self.up(torch.cat([planes.flatten(2), is_large_BL1.float()], 2))
        map_TNNC = planes.flatten(0, 1).permute(0, 2, 3, 1)
        ends_B = is_odd_BL[:, -1].view(games, 1, 1, 1)
        after = torch.stack(
            [
                torch.where(ends_B, odd[:, -1], even[:, -1]),
                torch.where(ends_B, even[:, -1], odd[:, -1]),
            ],
            1,
        )
        return Encoded(added_BLH, map_TNNC), LandmarkState(after)

    def last(self, tables: FeatureTables, length: int) -> FeatureTables:
        """See ``Features.last``; what was before is counted."""
        rows_BLSN, before = tables
        dropped = rows_BLSN[:, : rows_BLSN.shape[1] - length]
        return rows_BLSN[:, -length:], _moved_on(before, dropped)[:, -1]

    def windows(self, tables: FeatureTables, length: int) -> FeatureTables:
        """See ``Features.windows``; what was before each is counted."""
        rows_BLSN, before = tables
        (rows,) = super().windows((rows_BLSN,), length)
        dropped = rows_BLSN[:, : rows_BLSN.shape[1] - length]
        return rows, _moved_on(before, dropped)[0]

    def check(self, tables: FeatureTables, tokens: Tensor) -> None:
        """See ``Features.check``."""
        size = self.board_size
        shapes = [(*tokens.shape, _SETS, size), (len(tokens), 2, _SETS, size, size)]
        check_features(self.table, tables, shapes, tokens)


def _moved_on(before_B2SNN: Tensor, rows_BLSN: Tensor) -> Tensor:
    """The counts before each of some positions, and after all of them, (B, L + 1, 2, S, N, N)."""
    counts = [before_B2SNN]
    for rows_BSN in rows_BLSN.unbind(1):
        own, other = counts[-1].unbind(1)
        # Who moves next is the other one.
        counts.append(torch.stack([other + unpacked(rows_BSN).to(other.dtype), own], 1))
    return torch.stack(counts, 1)


@dataclass(frozen=True)
class LandmarkSettings(PartSettings):
    """``LandmarkFeatures`` has no settings."""

    part: ClassVar[type[nn.Module]] = LandmarkFeatures
    channels: ClassVar[int] = _PLANES  # of the map

    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the matrix."""
        return (_PLANES * board_size_of(vocab_size) ** 2 + 1) * d_model
