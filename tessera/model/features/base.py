"""What a part that reads features does: tables of a position in, vectors and a map out.

Shape suffixes: B games, L positions, S sets of points, N rows of the board, T positions of all
games (``B * L``), C channels, H ``d_model``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tessera.model.contract import check_features
from tessera.model.state import LayerState

# What a position is described by, beside its token: the tensors that a ``Features`` names.
FeatureTables = tuple[Tensor, ...]


class Encoded(NamedTuple):
    """What became of the features.

    Attributes:
        added: (B, L, H), added to the embedding of the tokens; zero at PAD.
        map: (T, N, N, C), what a head per point meets; None if there is none.
    """

    added: Tensor
    map: Tensor | None = None


class Features(nn.Module, ABC):
    """Reads what is known of each position, and what the part remembers of the positions before.

    Attributes:
        table: the table of a game that it reads, see ``GameBatch.features``.
        num_sets: S, the sets of points that describe a position.
        board_size: N.
        map_channels: C; 0 if it makes no map.
        no_weight_decay: see ``Mixer``.
    """

    table: str
    num_sets: int
    board_size: int
    map_channels: int = 0
    no_weight_decay: ClassVar[tuple[str, ...]] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The tables of a ``GameRecord`` that its own table is made of."""
        return ("board",) if self.table == "position" else (self.table,)

    @abstractmethod
    def encode(
        self, tables: FeatureTables, tokens_BL: Tensor, is_pad_BL: Tensor, state: LayerState | None
    ) -> tuple[Encoded, LayerState]:
        """Vectors and map of every position, and what is remembered after the last one.

        Args:
            tables: (B, L, S, N) int32 row bitboards of the positions after the tokens, seen from
                the player to move, and what else the part's table holds.
            tokens_BL: (B, L), the tokens that led to the positions.
            is_pad_BL: (B, L) bool, True at PAD.
            state: before the first position; None means the start of a game, or of a window.
        """

    def init_state(
        self, batch_size: int, device: torch.device | str | None = None
    ) -> LayerState | None:
        """What it remembers of new games, all zeros; None if it remembers nothing."""
        return None

    def begun(self, rows: Tensor) -> FeatureTables:
        """The tables of games that begin with the first position, of their sets of points alone.

        Args:
            rows: (B, L, S, N) or, of one position, (B, S, N).
        """
        return (rows,)

    def last(self, tables: FeatureTables, length: int) -> FeatureTables:
        """The tables of the last positions only, so many of every game."""
        return tables[0][:, -length:], *tables[1:]

    def windows(self, tables: FeatureTables, length: int) -> FeatureTables:
        """The tables of all windows of one game, (W, length, …), the first position's first.

        Args:
            tables: of one game, (1, L, …).
            length: of a window, at most L.
        """
        return (tables[0][0].unfold(0, length, 1).movedim(-1, 1),)

    def check(self, tables: FeatureTables, tokens: Tensor) -> None:
        """Raise ValueError unless the tables are those of these tokens."""
        shape = (*tokens.shape, self.num_sets, self.board_size)
        check_features(self.table, tables, [shape], tokens)


def at_once(tables: FeatureTables) -> FeatureTables:
    """The tables of one position of each game, with an axis L."""
    return (tables[0][:, None], *tables[1:]) if tables else ()


def ordered(tables: FeatureTables, order_BL: Tensor) -> FeatureTables:
    """The tables with the positions in another order, in every game its own."""
    if not tables:
        return ()
    index = order_BL[..., None, None].expand_as(tables[0])
    return tables[0].gather(1, index), *tables[1:]
