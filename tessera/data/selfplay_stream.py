"""Batches of a model's games against itself, alone or beside those of a built-in player."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from tessera.data.batch import GameBatch
from tessera.data.chunk import Chunk
from tessera.data.settings import StreamSettings
from tessera.data.stream import SELFPLAY_NUMBERS, GameStream
from tessera.go import GameLoop, Player, kept_tables

MOST_SLOTS = 16_384  # games at once; the rest of a chunk waits for a place

Weights = dict[str, Tensor]


class SelfPlayStream(GameStream):
    """The stream of the games that a model in training plays against itself.

    A chunk is played by the weights that the model has when its first batch is asked for. They are
    kept with the position in the stream, so that a resumed run plays the same games again.

    Args:
        model: in training; its weights are read and never written.
        new_player: the player that a copy of the model is.
        settings: as for GameStream; ``player`` has no meaning here.
        stream_options: the keyword arguments of GameStream but ``first_number``.

    Attributes:
        weights: by the number of a chunk those that played it; of the last two, because a loader
            asks for a batch before the batch before it is trained on.
    """

    _plays_ahead = False  # the weights that will play are not there yet

    def __init__(
        self,
        model: nn.Module,
        new_player: Callable[[Any], Player],
        settings: StreamSettings,
        **stream_options: Any,
    ) -> None:
        super().__init__(settings, first_number=SELFPLAY_NUMBERS, **stream_options)
        self.model, self.new_player = model, new_player
        self.weights: dict[int, Weights] = {}
        self._table: tuple[nn.Module, GameLoop] | None = None  # what plays, and where

    def _play(self, number: int) -> Chunk:
        model, loop = self._table = self._table or self._new_table()
        if number not in self.weights:
            self.weights[number] = {
                name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()
            }
        for old in sorted(self.weights)[:-2]:
            del self.weights[old]
        model.load_state_dict(self.weights[number])
        numbers = self.numbers(number)
        record = loop.play(
            torch.arange(numbers.start, numbers.stop, numbers.step, device=self.device)
        )
        return self._cut(record)

    def _new_table(self) -> tuple[nn.Module, GameLoop]:
        settings = self.settings
        # A copy, because a graph holds the addresses of the weights that it plays with.
        model = copy.deepcopy(self.model).to(self.device).eval().requires_grad_(False)
        loop = GameLoop(
            self.new_player(model),
            settings.games_per_chunk,
            MOST_SLOTS,
            board_size=settings.board_size,
            device=self.device,
            rules=settings.rules,
            seed=settings.seed,
            backend=settings.backend,
            skip_settled=settings.skip_settled,
            tables=kept_tables(self.needs),
        )
        return model, loop


class MixedStream(IterableDataset[GameBatch]):
    """Batch k of each of some streams, one below the other; PAD fills up the shorter sequences.

    Args:
        streams: of games on the same board, needing the same tables.

    Attributes:
        start_batch: as for GameStream.
    """

    def __init__(self, streams: Sequence[GameStream]) -> None:
        super().__init__()
        self.streams, self.start_batch = streams, 0

    def __iter__(self) -> Iterator[GameBatch]:
        return (self.batch(index) for index in itertools.count(self.start_batch))

    def batch(self, index: int) -> GameBatch:
        """Batch ``index``, from 0."""
        parts = [stream.batch(index) for stream in self.streams]
        return GameBatch.joined(parts, self.streams[0].settings.board_size)
