"""What was found of the newest positions of many games, on the device: a ring to learn from.

Shapes: R rows of the ring, B slots (games at once), S positions of a batch, n rows of the board,
P = n² points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tessera.go.features import BOARD_SETS, with_colour
from tessera.go.randomness import below, mix
from tessera.go.symmetries import (
    NUM_SYMMETRIES,
    turned_moves,
    turned_points,
    turned_rows,
    turned_tokens,
)

_SURE = 127  # of a point's owner in eight bits
_MOST_NARROW = 15  # columns that fit into a row of 16 bits


class Positions(NamedTuple):
    """Positions and what is known of them, seen from the player to move.

    Attributes:
        tokens: (S,) int64, the moves that led to them.
        rows: (S, 6, n) int32 row bitboards of ``go.features.POSITION_SETS``.
        weights: (S, P + 1) float32, what a search would play, pass last.
        actions: (S,) int64, the moves that were played, P for pass.
        values: (S,) float32, what the search thought of them, -1 to 1.
        wins: (S,) float32, how the games ended: 1 won, ½ drawn, 0 lost; NaN where it is unknown.
        scores: (S,) float32 in points; NaN where it is unknown.
        owners: (S, n, n) float32, whose the points were in the end, 1 the player's, -1 the other's.
    """

    tokens: Tensor
    rows: Tensor
    weights: Tensor
    actions: Tensor
    values: Tensor
    wins: Tensor
    scores: Tensor
    owners: Tensor


class Ended(NamedTuple):
    """Positions of games that are over, of M rows.

    Attributes:
        is_own: (M, B) bool, True where a position is one.
        values: (M, B), what the search thought of it, -1 to 1.
        wins: (M, B), how it ended, 0 to 1.
    """

    is_own: Tensor
    values: Tensor
    wins: Tensor


class PositionRing:
    """R rows of B positions, of one moment of all slots each; the newest replaces the oldest.

    How a game ends is written to its positions when it does. Nothing waits for the device, and
    everything that is kept lies in ``tensors``.

    Args:
        num_rows: R.
        num_slots: B.
        board_size: n.
        max_rows: of one game, at most; older rows are not looked at when a game ends.
        device: where.

    Attributes:
        tensors: by name, (R, B, …), and ``written`` () int64, how many rows ever were.
    """

    def __init__(
        self, num_rows: int, num_slots: int, board_size: int, max_rows: int, device: torch.device
    ) -> None:
        n, points = board_size, board_size**2
        self.num_rows, self.num_slots, self.board_size = num_rows, num_slots, board_size
        narrow = torch.int16 if n <= _MOST_NARROW else torch.int32
        kinds: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "tokens": ((), torch.int16),
            "rows": ((len(BOARD_SETS), n), narrow),
            "turns": ((), torch.int8),
            "weights": ((points + 1,), torch.float16),
            "actions": ((), torch.int16),
            "values": ((), torch.float16),
            "wins": ((), torch.float16),
            "scores": ((), torch.float16),
            "owners": ((n, n), torch.int8),
        }
        self.tensors = {
            name: torch.zeros(num_rows, num_slots, *shape, dtype=dtype, device=device)
            for name, (shape, dtype) in kinds.items()
        }
        self.tensors["written"] = torch.zeros((), dtype=torch.int64, device=device)
        self._ages = torch.arange(min(num_rows, max_rows), device=device)

    @property
    def written(self) -> Tensor:
        """() int64, how many rows were ever written."""
        return self.tensors["written"]

    def write(self, **found: Tensor) -> None:
        """Add a row of what was found in all slots.

        Args:
            found: (B, …) by name: tokens, rows (BOARD_SETS), turns, weights, actions, values, and,
                where it is known already, wins, scores and owners.
        """
        row = (self.written % self.num_rows).unsqueeze(0)
        nothing = {"wins": float("nan"), "scores": float("nan"), "owners": 0}
        for name, tensor in self.tensors.items():
            if name == "written":
                continue
            if name in found:
                value = found[name].to(tensor.dtype)
            else:
                value = torch.full_like(tensor[0], nothing[name])
            tensor.index_copy_(0, row, value.unsqueeze(0))
        self.written.add_(1)

    def end(self, over: Tensor, begun: Tensor, score: Tensor, ownership: Tensor) -> Ended:
        """Say of games that are over how they ended, at all their positions.

        Returns:
            The positions that it was said of.

        Args:
            over: (B,) bool, True where a game is.
            begun: (B,) int64, how many rows were written before its first position.
            score: (B,) float32, black's area minus white's minus komi.
            ownership: (B, n, n), +1 black's, -1 white's.
        """
        numbers = self.written - 1 - self._ages
        is_own = over & (numbers.unsqueeze(1) >= begun) & (numbers >= 0).unsqueeze(1)
        rows, tensors = numbers % self.num_rows, self.tensors
        colours = (1 - 2 * tensors["turns"].index_select(0, rows)).to(torch.int8)
        scores = colours * score
        values = tensors["values"].index_select(0, rows)
        ends = {
            "wins": (scores.sign() + 1) / 2,
            "scores": scores,
            "owners": colours[..., None, None] * (ownership * _SURE).to(torch.int8),
        }
        for name, ended in ends.items():
            tensor = tensors[name]
            before = tensor.index_select(0, rows)
            mask = is_own.view(*is_own.shape, *[1] * (before.dim() - 2))
            after = torch.where(mask, ended.to(tensor.dtype), before)
            tensor.index_copy_(0, rows, after)
        return Ended(is_own, values, ends["wins"])

    def sample(self, words: Tensor, written: int, window: int) -> Positions:
        """Positions of the newest rows, each turned by one of the eight symmetries.

        Args:
            words: (S,) int64, 64 random bits for each.
            written: the value of ``written``, which the host knows without asking.
            window: rows to choose from, 1 to the smaller of R and ``written``.
        """
        tensors, slots = self.tensors, self.num_slots
        place = below(words, torch.full_like(words, window * slots))
        rows = (written - 1 - place // slots) % self.num_rows
        at = rows * slots + place % slots
        found = {
            name: tensor.flatten(0, 1).index_select(0, at)
            for name, tensor in tensors.items()
            if name != "written"
        }
        turns = mix(words) & (NUM_SYMMETRIES - 1)
        size, turn = self.board_size, found["turns"].int()
        actions = turned_tokens(found["actions"].long(), turns, size)
        return Positions(
            turned_tokens(found["tokens"].long(), turns, size),
            with_colour(turned_rows(found["rows"], turns), turn),
            turned_moves(found["weights"].float(), turns, size),
            actions,
            found["values"].float(),
            found["wins"].float(),
            found["scores"].float(),
            turned_points(found["owners"].float() / _SURE, turns),
        )
