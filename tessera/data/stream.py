"""GameStream: an endless stream of ready batches, cut from games that are played on the fly."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset

from tessera.data.batch import GameBatch
from tessera.data.chunk import Chunk
from tessera.data.settings import StreamSettings
from tessera.go import play_games

# The first game of each use. They are so far apart that no run gets from one into another.
TRAIN_NUMBERS = 0
VAL_NUMBERS = 2**40
TEST_NUMBERS = 2**41


class GameStream(IterableDataset[GameBatch]):
    """Batches on the device that trains on them; batch k is a pure function of the arguments and k.

    Games are played in chunks, one call of the engine each. The newest chunk is kept, so a stream
    that fits into one chunk plays its games once, however often it is read.

    Args:
        settings: which games, and how batches are cut from them.
        device: where the games are played and the batches live.
        rank: of this process; it plays the games whose number is ``rank`` modulo ``world_size``.
        world_size: number of processes.
        first_number: number of the stream's first game.
        num_batches: batches in the stream; None for an endless one.
        start_batch: k of the first batch.
        with_legal: whether batches hold the legal points.
    """

    def __init__(
        self,
        settings: StreamSettings,
        *,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world_size: int = 1,
        first_number: int = TRAIN_NUMBERS,
        num_batches: int | None = None,
        start_batch: int = 0,
        with_legal: bool = False,
    ) -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.rank, self.world_size = rank, world_size
        self.first_number = first_number
        self.num_batches, self.start_batch = num_batches, start_batch
        self.with_legal = with_legal
        self._chunk: tuple[int, Chunk] | None = None

    def __iter__(self) -> Iterator[GameBatch]:
        index = self.start_batch
        while self.num_batches is None or index < self.num_batches:
            yield self.batch(index)
            index += 1

    def batch(self, index: int) -> GameBatch:
        """Batch ``index`` of the stream, from 0."""
        number, within = divmod(index, self.settings.batches_per_chunk)
        if self._chunk is None or self._chunk[0] != number:
            self._chunk = None  # frees the old games before new ones are played
            self._chunk = number, self._play(number)
        first = within * self.settings.batch_size
        return self._chunk[1].batch(index, range(first, first + self.settings.batch_size))

    def _play(self, chunk: int) -> Chunk:
        settings = self.settings
        span = settings.games_per_chunk * self.world_size
        first = self.first_number + chunk * span + self.rank
        record = play_games(
            settings.player,
            range(first, first + span, self.world_size),
            seed=settings.seed,
            board_size=settings.board_size,
            rules=settings.rules,
            device=self.device,
            backend=settings.backend,
            with_legal=self.with_legal,
        )
        return Chunk(record, settings.context, settings.num_windows)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the device had no memory left; on a CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
