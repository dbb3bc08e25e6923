"""Batches of a model's games against itself, alone or beside those of a built-in player."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import IterableDataset

from tessera.data.batch import GameBatch
from tessera.data.chunk import Chunk
from tessera.data.selfplay import SelfPlay
from tessera.data.settings import StreamSettings
from tessera.data.stream import SELFPLAY_NUMBERS, GameStream
from tessera.model import GameModel

_MOST_SLOTS = 16_384  # games at once; the rest of a chunk waits for a place

Weights = dict[str, Tensor]


class SelfPlayStream(GameStream):
    """The stream of the games that a model in training plays against itself.

    A chunk is played by the weights that the model has when its first batch is asked for. They are
    kept with the position in the stream, so that a resumed run plays the same games again.

    Args:
        model: in training; its weights are read and never written.
        settings: as for GameStream; ``player`` has no meaning here.
        temperature: as for SelfPlay.
        dtype: as for SelfPlay.
        stream_options: the keyword arguments of GameStream but ``first_number``.

    Attributes:
        weights: by the number of a chunk those that played it; of the last two, because a loader
            asks for a batch before the batch before it is trained on.
    """

    def __init__(
        self,
        model: GameModel,
        settings: StreamSettings,
        *,
        temperature: float = 1.0,
        dtype: torch.dtype = torch.float32,
        **stream_options: Any,
    ) -> None:
        super().__init__(settings, first_number=SELFPLAY_NUMBERS, **stream_options)
        self.model, self.temperature, self.dtype = model, temperature, dtype
        self.weights: dict[int, Weights] = {}
        self._table: SelfPlay | None = None

    def _play(self, number: int) -> Chunk:
        table = self._table = self._table or self._new_table()
        if number not in self.weights:
            self.weights[number] = {
                name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()
            }
        for old in sorted(self.weights)[:-2]:
            del self.weights[old]
        table.model.load_state_dict(self.weights[number])
        numbers = self.numbers(number)
        record = table.play(
            torch.arange(numbers.start, numbers.stop, numbers.step, device=self.device)
        )
        return Chunk(record, self.settings.context, self.settings.num_windows)

    def _new_table(self) -> SelfPlay:
        settings = self.settings
        return SelfPlay(
            # A copy, because a graph holds the addresses of the weights that it plays with.
            copy.deepcopy(self.model).to(self.device).eval().requires_grad_(False),
            settings.games_per_chunk,
            _MOST_SLOTS,
            rules=settings.rules,
            seed=settings.seed,
            temperature=self.temperature,
            backend=settings.backend,
            dtype=self.dtype,
            with_legal=self.with_legal,
        )


class MixedStream(IterableDataset[GameBatch]):
    """Batch k of each of two streams, one below the other.

    Args:
        streams: neither with legal points.
        pad_token: fills up the shorter sequences.

    Attributes:
        start_batch: as for GameStream.
    """

    def __init__(self, streams: tuple[GameStream, GameStream], pad_token: int) -> None:
        super().__init__()
        self.streams, self.pad_token, self.start_batch = streams, pad_token, 0

    def __iter__(self) -> Iterator[GameBatch]:
        return (self.batch(index) for index in itertools.count(self.start_batch))

    def batch(self, index: int) -> GameBatch:
        """Batch ``index``, from 0."""
        one, other = (stream.batch(index) for stream in self.streams)
        length = max(one.inputs.shape[1], other.inputs.shape[1])

        def join(name: str, fill: int = 0) -> Tensor:
            tables = (getattr(one, name), getattr(other, name))
            return torch.cat(
                [pad(table, (0, length - table.shape[1]), value=fill) for table in tables]
            )

        return GameBatch(
            index=index,
            inputs=join("inputs", self.pad_token),
            targets=join("targets", self.pad_token),
            log_probs=join("log_probs"),
            entropies=join("entropies"),
            plies=join("plies"),
            captures=join("captures"),
            legal=None,
        )
