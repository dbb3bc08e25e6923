"""Finished games as tensors; each of their tables is described once, where it is declared.

Shapes: G games, T plies of the longest of them, n rows, B games that are being played.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_type_hints

import torch
from torch import Tensor

from tessera.go.features import FEATURES
from tessera.go.rules import Rules
from tessera.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Table:
    """What a table holds, and how it is read off games that are being played.

    Attributes:
        dtype: of its entries.
        when: the moment of reading: at the ``choice`` of moves, ``before`` or ``after`` they are
            played, or once at the ``end`` of a game.
        read: an entry of every game, (B, *entry shape) of any dtype, from the ``Choice``, or, at
            any other moment, from the engine; None for what is not read but made of other tables.
        has_rows: an entry is a set of points, n row bitboards.
        num_sets: an entry is so many sets of points; 0 for one alone.
        has_points: a set is not row bitboards but n × n numbers, one for each point, and there are
            two of each: of the player to move and of the other.
        has_last: the entries are of positions: there is one more, of the position after a game's
            last ply. Entry t is that before ply t, read after ply t - 1; entry 0, the new game, is
            what stands beyond a game's end.
        holds_tokens: PAD stands beyond a game's end, where otherwise 0 stands.
        is_optional: kept only where somebody needs it.
    """

    dtype: torch.dtype
    when: Literal["choice", "before", "after", "end"] = "after"
    read: Callable[[Any], Tensor] | None = None
    has_rows: bool = False
    num_sets: int = 0
    has_points: bool = False
    has_last: bool = False
    holds_tokens: bool = False
    is_optional: bool = False

    @property
    def is_by_ply(self) -> bool:
        """Whether there is an entry for every ply, or one for a game."""
        return self.when != "end"

    def fill(self, board_size: int) -> int:
        """What stands beyond a game's end."""
        return Vocabulary(board_size).pad_token if self.holds_tokens else 0

    def entry_shape(self, board_size: int) -> tuple[int, ...]:
        """The shape of one entry: (), (n,), (R, n) or (2, R, n, n) with R sets."""
        rows = [board_size] * (self.has_rows + self.has_points)
        return (*[2] * self.has_points, *[self.num_sets] * (self.num_sets > 0), *rows)

    def entry_bytes(self, board_size: int) -> int:
        """Bytes of one entry."""
        return self.dtype.itemsize * math.prod(self.entry_shape(board_size))

    def bytes_per_ply(self, board_size: int) -> int:
        """Bytes of a ply's entry; 0 where a game has only one."""
        return self.is_by_ply * self.entry_bytes(board_size)

    def new(self, games: int, plies: int, board_size: int, device: torch.device) -> Tensor:
        """A table of games of which nothing is known yet; (G, *entry) or (G, T, *entry)."""
        by_ply = [plies + self.has_last] * self.is_by_ply
        shape = (games, *by_ply, *self.entry_shape(board_size))
        return torch.full(shape, self.fill(board_size), dtype=self.dtype, device=device)

    def fitted(self, tensor: Tensor, plies: int, board_size: int) -> Tensor:
        """The same table with T = ``plies``: cut, or filled up; contiguous."""
        entries = plies + self.has_last
        if not self.is_by_ply or tensor.shape[1] == entries:
            return tensor
        shape = (len(tensor), max(0, entries - tensor.shape[1]), *tensor.shape[2:])
        beyond = tensor.new_full(shape, self.fill(board_size))
        return torch.cat([tensor[:, :entries], beyond], 1)


def _of_positions(name: str) -> Table:
    """The table of one of the features, written down after every ply."""
    feature = FEATURES[name]
    return Table(
        torch.int32,
        "after",
        feature.read,
        has_rows=True,
        num_sets=feature.num_sets,
        has_last=True,
        is_optional=True,
    )


@dataclass(frozen=True, slots=True)
class GameRecord:
    """A batch of finished games and the exact probabilities of what was played in them.

    Attributes:
        board_size: n.
        rules: the rules they were played by.
        player: the name of the player of both colours.
        seed: the seed; with the numbers it determines the games.
        numbers: (G,) int64 game numbers.
        moves: (G, T) int16 tokens, PAD beyond a game's end.
        lengths: (G,) int32, plies.
        results: (G,) float32, black's area minus white's minus komi.
        log_probs: (G, T) float32, the log-probability of each move in nats; 0 beyond the end.
        entropies: (G, T) float32, the entropy of the choice in nats; 0 beyond the end.
        captures: (G, T) int16, stones that each ply took off the board; 0 beyond the end.
        legal: (G, T, n) int32 row bitboards of the legal points before each ply, with
            ``skip_settled`` of those that are not settled, 0 beyond the end; None where nobody
            needs them, as for the tables below.
        board: (G, T + 1, 5, n) int32 row bitboards of ``features.BOARD_SETS``: entry t is the
            position before ply t, the last one the final position; 0 beyond it.
        landmarks: (G, T + 1, 3, n) int32, the same of ``features.LANDMARK_SETS``.
        settled: (G, T + 1, n) int32, the settled points of both colours in the same positions.
        skip_settled: whether the players left settled points alone.
    """

    board_size: int
    rules: Rules
    player: str
    seed: int
    numbers: Tensor
    moves: Annotated[
        Tensor, Table(torch.int16, "choice", lambda choice: choice.moves, holds_tokens=True)
    ]
    lengths: Annotated[Tensor, Table(torch.int32, "end", lambda engine: engine.move_number)]
    results: Annotated[Tensor, Table(torch.float32, "end", lambda engine: engine.score())]
    log_probs: Annotated[Tensor, Table(torch.float32, "choice", lambda choice: choice.log_probs)]
    entropies: Annotated[Tensor, Table(torch.float32, "choice", lambda choice: choice.entropies)]
    captures: Annotated[Tensor, Table(torch.int16, "after", lambda engine: engine.last_captures)]
    legal: Annotated[
        Tensor | None,
        Table(
            torch.int32,
            "before",
            lambda engine: engine.playable_rows().t(),
            has_rows=True,
            is_optional=True,
        ),
    ] = None
    board: Annotated[Tensor | None, _of_positions("board")] = None
    landmarks: Annotated[Tensor | None, _of_positions("landmarks")] = None
    settled: Annotated[
        Tensor | None,
        Table(
            torch.int32,
            "after",
            lambda engine: engine.settled_points().both.t(),
            has_rows=True,
            has_last=True,
            is_optional=True,
        ),
    ] = None
    skip_settled: bool = False

    def tables(self) -> Iterator[tuple[str, Table, Tensor]]:
        """Name, description and tensor of the tables that were kept."""
        for name, table in TABLES.items():
            if (tensor := getattr(self, name)) is not None:
                yield name, table, tensor

    def fitted(self, plies: int) -> GameRecord:
        """The same games with T = ``plies``: every table is cut, or filled up."""
        fitted: dict[str, Any] = {
            name: table.fitted(tensor, plies, self.board_size)
            for name, table, tensor in self.tables()
        }
        return replace(self, **fitted)

    def trimmed(self) -> GameRecord:
        """The same games with T of the longest; waits for the device."""
        return self.fitted(int(self.lengths.max()))

    def to(self, device: str | torch.device) -> GameRecord:
        """The same games on another device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, _, tensor in self.tables()}
        return replace(self, numbers=self.numbers.to(device), **moved)

    @staticmethod
    def joined(parts: Sequence[GameRecord]) -> GameRecord:
        """The games of all parts, one below the other; the parts kept the same tables."""
        if len(parts) == 1:
            return parts[0]
        plies = max(part.moves.shape[1] for part in parts)
        parts = [part.fitted(plies) for part in parts]
        tables: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name, *_ in parts[0].tables()
        }
        return replace(parts[0], numbers=torch.cat([part.numbers for part in parts]), **tables)


def described(record: type) -> dict[str, Table]:
    """The tables among the annotations of a class, by name."""
    return {
        name: table
        for name, hint in get_type_hints(record, include_extras=True).items()
        for table in getattr(hint, "__metadata__", ())
        if isinstance(table, Table)
    }


TABLES: Mapping[str, Table] = described(GameRecord)


def kept_tables(needs: Collection[str] = ()) -> dict[str, Table]:
    """The tables of a record for whoever needs these optional ones.

    Raises:
        ValueError: if there is no optional table of such a name.
    """
    optional = [name for name, table in TABLES.items() if table.is_optional]
    for name in needs:
        if name not in optional:
            raise ValueError(f"needs must be among {', '.join(optional)}, got {name}.")
    return {name: table for name, table in TABLES.items() if name in needs or not table.is_optional}


def bytes_per_ply(tables: Mapping[str, Table], board_size: int) -> int:
    """Bytes that a ply takes in these tables."""
    return sum(table.bytes_per_ply(board_size) for table in tables.values())


BYTES_PER_PLY = bytes_per_ply(kept_tables(), 1)  # of a record without optional tables
