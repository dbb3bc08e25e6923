"""What a model trains on: token sequences, and what is known exactly about every target.

Shapes: B sequences, L positions, n rows, V = n² + 3 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessera.go.features import FEATURES, with_colour
from tessera.go.record import TABLES, Table, bytes_per_ply
from tessera.setting_errors import one_of
from tessera.vocabulary import Vocabulary

_POINTS_AT_ONCE = 2**24  # are unpacked at a time to be counted
_MOST_TIMES = 2**15 - 1  # that a count in 16 bits says


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
        legal: (B, L, n) int32 row bitboards of the legal points before the target, of games with
            ``skip_settled`` those that are not settled; None where nobody needs them, as for the
            tables below.
        board: (B, L, 5, n) int32 row bitboards of ``go.features.BOARD_SETS`` of the position in
            which the target was chosen, which is the one after the input; the final one for EOS.
        landmarks: (B, L, 3, n) int32, the same of ``go.features.LANDMARK_SETS``.
        landmarks_before: (B, 2, 3, n, n) int16, how often each point was in each of these sets in
            the game before the window's first position: in the positions of the player who moved to
            it, the last of which is the one before, and in those of the other; None where sequences
            are whole games.
        settled: (B, L, n) int32 row bitboards of the settled points in the same positions as
            ``board``.
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
    board: Tensor | None = None
    landmarks: Tensor | None = None
    landmarks_before: Tensor | None = None
    settled: Tensor | None = None

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

    def windows(self, starts: Tensor, length: int) -> GameBatch:
        """Pieces of the sequences, W of each, sequences first.

        Args:
            starts: (B, W) int64, the first position of each piece.
            length: positions in a piece.
        """
        sequences, windows = starts.shape
        rows = torch.arange(sequences, device=starts.device).repeat(windows)
        positions = torch.arange(length, device=starts.device)
        pick = rows.unsqueeze(1), starts.t().reshape(-1, 1) + positions
        cut = self.map(lambda table, tensor: tensor[pick if table.is_by_ply else rows])
        if self.landmarks is None:
            return cut
        before = times_before(self.landmarks, starts).transpose(0, 1).flatten(0, 1)
        if cut.landmarks_before is not None:
            # Behind an odd number of positions the other player is to move.
            earlier, is_odd = cut.landmarks_before, starts.t().reshape(-1, 1, 1, 1, 1) % 2 == 1
            before = before + torch.where(is_odd, earlier.flip(1), earlier)
        return cut._replace(landmarks_before=before)

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

    def features(self, name: str) -> tuple[Tensor, ...]:
        """What a model that reads this table is given beside the inputs.

        Args:
            name: "none", or one of ``go.features.FEATURES``.

        Returns:
            None: (); board: (board,); position: one that is made of board and plies; landmarks:
            (landmarks, landmarks_before), the latter zeros where nothing is before the sequences.

        Raises:
            ValueError: if there is no such table, or the batch does not hold it.
        """
        one_of("none", *FEATURES)("features", name)
        if name == "none":
            return ()
        kept = "board" if name == "position" else name
        if (entries := getattr(self, kept)) is None:
            raise ValueError(f'{kept} must have been asked for with needs=["{kept}"], got None.')
        if name == "position":
            return (with_colour(entries, self.plies % 2),)
        if name != "landmarks":
            return (entries,)
        before = self.landmarks_before
        if before is None:
            table, size = BATCH_TABLES["landmarks_before"], entries.shape[-1]
            before = table.new(len(entries), 0, size, entries.device)
        return entries, before

    def scores(self) -> Tensor:
        """By how many points the player to move wins in the end, (B, L) float32."""
        return torch.where(self.plies % 2 == 0, self.results[:, None], -self.results[:, None])

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


def times_before(entries: Tensor, starts: Tensor) -> Tensor:
    """How often each point was in each set before some places in a sequence, by player to move.

    It is a product of matrices of zeros and ones: nothing waits for a GPU to say where there is
    anything to count.

    Args:
        entries: (B, L, R, n) int32 row bitboards.
        starts: (B, W) int64, the first positions that are not counted.

    Returns:
        (B, W, 2, R, n, n) int16, of the positions an odd and an even number before the place.
    """
    length, sets, size = entries.shape[1:]
    columns = torch.arange(size, device=entries.device, dtype=torch.int32)
    places = torch.arange(length, device=entries.device)
    some = max(1, _POINTS_AT_ONCE // (length * sets * size**2))
    counts = []
    for entry, start in zip(entries.split(some), starts.split(some), strict=True):
        points = (entry.unsqueeze(-1) >> columns & 1).float().flatten(2)
        distance = start.unsqueeze(-1) - places
        is_before = [((distance > 0) & (distance % 2 == odd)).float() for odd in (1, 0)]
        # Whole numbers below 2^24 are exact, whatever the order or the precision of the products.
        times = torch.bmm(torch.stack(is_before, 2).flatten(1, 2), points)
        counts.append(times.clamp_(max=_MOST_TIMES).short().unflatten(1, (-1, 2)))
    return torch.cat(counts).unflatten(-1, (sets, size, size))


# What a batch says in its own way; everything else is as a record describes it.
_OWN = {
    "inputs": Table(torch.int64, holds_tokens=True),
    "targets": Table(torch.int64, holds_tokens=True),
    "plies": Table(torch.int32),
    "captures": Table(torch.int32),
    # Of whole games each entry has a target: the end, for the final position.
    "board": replace(TABLES["board"], has_last=False),
    "landmarks": replace(TABLES["landmarks"], has_last=False),
    "settled": replace(TABLES["settled"], has_last=False),
    "landmarks_before": replace(
        TABLES["landmarks"], dtype=torch.int16, when="end", has_last=False, has_points=True
    ),
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
