"""The positions of some games side by side, so that they can be trained on in any order.

Shape suffixes: P positions, T of them, B games, L positions of a game, K tokens read at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.data import GameBatch, GameStream


class Positions:
    """Every position, with something to predict, of the first batches of a stream.

    Args:
        games: the stream; the same games however often it is asked.
        num_batches: of it.
        pad_token: the target where there is nothing to predict.
        inputs: K.

    Attributes:
        tokens: the inputs (B, L) of every batch.
        sizes: how many positions every batch has; their sum is P.
    """

    def __init__(self, games: GameStream, num_batches: int, pad_token: int, inputs: int) -> None:
        self.tokens: list[Tensor] = []
        self.sizes: list[int] = []
        self._places: list[Tensor] = []  # among the B * L of a batch
        parts, windows = [], []
        for number in range(num_batches):
            batch = games.batch(number)
            places = (batch.targets != pad_token).flatten().nonzero().squeeze(1)
            parts.append(_at(batch, places))
            windows.append(last_tokens(batch.inputs, inputs, pad_token).flatten(0, 1)[places])
            self.tokens.append(batch.inputs)
            self.sizes.append(len(places))
            self._places.append(places)
        self._games = GameBatch.joined(parts, games.settings.board_size)
        self._windows = torch.cat(windows)

    def __len__(self) -> int:
        return len(self._windows)

    def of_batch(self, number: int, values: Tensor) -> Tensor:
        """The positions' part (size, …) of what belongs to all (B, L, …) of a batch."""
        return values.flatten(0, 1)[self._places[number]]

    def batch(self, index: int, rows: Tensor) -> tuple[GameBatch, Tensor]:
        """Some positions as sequences of one, (T, 1), and their last tokens (T, K).

        Args:
            index: the number of the batch.
            rows: (T,) int64, on the device of the games.
        """
        games = self._games.map(lambda table, tensor: tensor[rows])
        return games._replace(index=index), self._windows[rows]


def last_tokens(tokens_BL: Tensor, inputs: int, pad_token: int) -> Tensor:
    """The last tokens at each position (B, L, K), the newest first; PAD before the first one."""
    length = tokens_BL.shape[1]
    padded = F.pad(tokens_BL, (inputs - 1, 0), value=pad_token)
    firsts = range(inputs - 1, -1, -1)
    return torch.stack([padded[:, first : first + length] for first in firsts], -1)


def shuffled(num_rows: int, size: int, seed: int, index: int) -> Iterator[Tensor]:
    """Rows 0 to num_rows − 1 in batches (T,) on the host, each epoch in another order.

    A pure function of its arguments. What is too little for a batch is left out of an epoch.

    Args:
        num_rows: P.
        size: of a batch, at most P.
        seed: of the orders.
        index: the batch to begin with, over all epochs.
    """
    epoch, within = divmod(index, num_rows // size)
    while True:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(num_rows, generator=generator)
        for first in range(within * size, num_rows - size + 1, size):
            yield order[first : first + size]
        epoch, within = epoch + 1, 0


def _at(batch: GameBatch, places_T: Tensor) -> GameBatch:
    """Positions of a batch, as sequences of one."""
    rows = places_T // batch.inputs.shape[1]
    return batch.map(
        lambda table, tensor: (
            tensor.flatten(0, 1)[places_T][:, None] if table.is_by_ply else tensor[rows]
        )
    )
