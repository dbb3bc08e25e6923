"""What a model trains on: token sequences, and what is known exactly about every target.

Shapes: B sequences, L positions, n rows, V = n² + 3 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessera.go.record import TABLES, Table, bytes_per_ply
from tessera.vocabulary import Vocabulary


class GameBatch(NamedTuple):
    """Sequences EOS, moves, EOS, PAD, or windows of them, and their targets one position on.

    A table that is called as in ``GameRecord`` holds what the record holds, by target.

    Attributes:
        index: the batch's number in its stream.
        inputs: (B, L) int64 tokens.
        targets: (B, L) int64 tokens; PAD where there is nothing to predict.
        log_probs: (B, L) float32, the exact log-probability in nats that the player gave the
            target; 0 for EOS and PAD.
        entropies: (B, L) float32, the exact entropy in nats of the player's choice; 0 for EOS and
            PAD.
        plies: (B, L) int32, the target's ply, from 0.
        captures: (B, L) int32, stones that the game's plies before the target took off the board.
        results: (B,) float32, black's area minus white's minus komi at the game's end.
        legal: (B, L, n) int32 row bitboards of the legal points before the target; None where
            nobody needs them.
    """

    index: int  # type: ignore[assignment]  # tuple.index is of no use here
    inputs: Tensor
    targets: Tensor
    log_probs: Tensor
    entropies: Tensor
    plies: Tensor
    captures: Tensor
    results: Tensor
    legal: Tensor | None = None

    def tables(self) -> Iterator[tuple[str, Table, Tensor]]:
        """Name, description and tensor of the tables that are there."""
        for name, table in BATCH_TABLES.items():
            if (tensor := getattr(self, name)) is not None:
                yield name, table, tensor

    def map(self, function: Callable[[Table, Tensor], Tensor]) -> GameBatch:
        """The batch with ``function`` of a table's description and its tensor for every table."""
        mapped: dict[str, Any] = {
            name: function(table, tensor) for name, table, tensor in self.tables()
        }
        return self._replace(**mapped)

    def rows(self, rows: slice) -> GameBatch:
        """Some of the sequences; shares the batch's memory."""
        return self.map(lambda table, tensor: tensor[rows])

    def positions(self, length: int) -> GameBatch:
        """The first positions of every sequence."""
        return self.map(
            lambda table, tensor: tensor[:, :length].contiguous() if table.is_by_ply else tensor
        )

    def windows(self, rows: Tensor, positions: Tensor) -> GameBatch:
        """Pieces of the sequences: one of row ``rows`` (R,), at ``positions`` (R, L), each."""
        pick = rows.unsqueeze(1), positions
        return self.map(lambda table, tensor: tensor[pick if table.is_by_ply else rows])

    @staticmethod
    def joined(parts: Sequence[GameBatch], board_size: int) -> GameBatch:
        """The sequences of all parts, one below the other, filled up to the longest.

        The parts have the same tables; the number is that of the first.
        """
        length = max(part.inputs.shape[1] for part in parts)
        parts = [
            part.map(lambda table, tensor: table.fitted(tensor, length, board_size))
            for part in parts
        ]
        tables: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name, *_ in parts[0].tables()
        }
        return parts[0]._replace(**tables)

    def legal_tokens(self) -> Tensor:
        """(B, L, V) bool, True where a token may follow: legal points and PASS, or EOS at the end.

        Raises:
            ValueError: if the batch holds no legal points.
        """
        if self.legal is None:
            raise ValueError('legal must have been asked for with needs=["legal"], got None.')
        vocabulary = Vocabulary(self.legal.shape[-1])
        columns = torch.arange(vocabulary.board_size, device=self.legal.device, dtype=torch.int32)
        points = (self.legal.unsqueeze(-1) >> columns & 1).bool().flatten(2)
        is_end = (self.targets == vocabulary.eos_token).unsqueeze(-1)
        nothing = torch.zeros_like(is_end)
        # Beyond a game's last ply no point is legal.
        return torch.cat([points, ~is_end, nothing, is_end], -1)


# What a batch says in its own way; everything else is as a record describes it.
_OWN = {
    "inputs": Table(torch.int64, holds_tokens=True),
    "targets": Table(torch.int64, holds_tokens=True),
    "plies": Table(torch.int32),
    "captures": Table(torch.int32),
}
BATCH_TABLES = {name: _OWN.get(name) or TABLES[name] for name in GameBatch._fields[1:]}

# Without optional tables, and without the plies, which are the same in every whole game.
BYTES_PER_POSITION = bytes_per_ply(
    {
        name: table
        for name, table in BATCH_TABLES.items()
        if name != "plies" and not table.is_optional
    },
    1,
)
