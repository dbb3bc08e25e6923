"""GameStream: an endless sequence of batches that are pure functions of their numbers."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterator

import torch
from torch.utils.data import IterableDataset

from tessera.accelerator import is_out_of_memory
from tessera.data.batch import GameBatch
from tessera.data.chunk import Chunk
from tessera.data.chunk_size import NoRoomForGamesError, chunk_problem
from tessera.data.settings import StreamSettings
from tessera.go import GameRecord, play_games
from tessera.go.backend import check_device, resolve_backend
from tessera.setting_errors import fits, whole_number
from tessera.transfers import owned

_logger = logging.getLogger(__name__)

# The first game of each use. They are so far apart that no run gets from one into another.
TRAIN_NUMBERS = 0
VAL_NUMBERS = 2**40
TEST_NUMBERS = 2**41
SELFPLAY_NUMBERS = 2**42


class GameStream(IterableDataset[GameBatch]):
    """Batches of games that are played where they are needed.

    Batch k of a rank is a pure function of the arguments and k, so the position in the stream is
    one number. Games are played in chunks, one call of the engine each. The newest chunk is kept,
    so a stream that fits into one chunk plays its games once, however often it is read.

    Args:
        settings: which games, and how batches are cut from them.
        device: where games are played and batches live.
        rank: of this process; it plays the games whose number is ``rank`` modulo ``world_size``.
        world_size: number of processes.
        first_number: number of the stream's first game.
        start_batch: the batch that iteration begins with.
        num_batches: batches in one iteration; None for an endless one.
        needs: the optional tables that batches hold, see ``play_games``.

    Attributes:
        start_batch: may be moved between iterations; an iteration leaves it alone, because a
            loader may take batches that are never trained on.
        length_step: of batches of whole games, see ``Chunk``.

    Raises:
        SettingError: if a rank or a count is no whole number in its range, or there is no such
            device.
        NoRoomForGamesError: while iterating, if a chunk does not fit on the device.
    """

    # On a GPU the next chunk is played while this one is trained on.
    _plays_ahead = True

    def __init__(
        self,
        settings: StreamSettings,
        *,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world_size: int = 1,
        first_number: int = TRAIN_NUMBERS,
        start_batch: int = 0,
        num_batches: int | None = None,
        needs: Collection[str] = (),
    ) -> None:
        super().__init__()
        world_size = whole_number("world_size", world_size, 1)
        rank = whole_number("rank", rank)
        fits(f"0 to {world_size - 1}", lambda rank: 0 <= rank < world_size)("rank", rank)
        first_number = whole_number("first_number", first_number)
        start_batch = whole_number("start_batch", start_batch, 0)
        if num_batches is not None:
            num_batches = whole_number("num_batches", num_batches, 0)
        self.settings = settings
        self.device = check_device(device)
        self.rank, self.world_size = rank, world_size
        self.first_number = first_number
        self.start_batch, self.num_batches = start_batch, num_batches
        self.needs, self.length_step = needs, 1
        self._newest: tuple[int, Chunk] | None = None
        self._ahead: tuple[int, Chunk] | None = None
        self._side: torch.cuda.Stream | None = None  # where it is played

    def __iter__(self) -> Iterator[GameBatch]:
        for index in itertools.islice(itertools.count(self.start_batch), self.num_batches):
            yield self.batch(index)

    def batch(self, index: int) -> GameBatch:
        """Batch ``index`` of the stream, from 0."""
        index = whole_number("index", index, 0)
        number, within = divmod(index, self.settings.batches_per_chunk)
        first = within * self.settings.batch_size
        # Validation asks in inference mode; what comes from here may always be trained on.
        with torch.inference_mode(False), torch.no_grad():
            chunk = self._chunk(number)
            return chunk.batch(index, range(first, first + self.settings.batch_size))

    def numbers(self, chunk: int) -> range:
        """The numbers of the games of a chunk, from 0, that this rank plays."""
        span = self.settings.games_per_chunk * self.world_size
        first = self.first_number + chunk * span
        return range(first + self.rank, first + span, self.world_size)

    def _chunk(self, number: int) -> Chunk:
        if self._newest is not None and self._newest[0] == number:
            return self._newest[1]
        self._newest = None  # frees the old games before new ones are played
        if problem := chunk_problem(self.settings, self.device, self.needs):
            raise NoRoomForGamesError(f"out of memory: {problem}")
        try:
            chunk = self._take_ahead(number) or self._played(number)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise NoRoomForGamesError(
                f"out of memory on {self.device} while playing: lower {{}}games_per_chunk "
                f"(={self.settings.games_per_chunk})."
            ) from error
        self._newest = number, chunk
        self._play_ahead(number + 1)
        return chunk

    def _take_ahead(self, number: int) -> Chunk | None:
        """The chunk, if it was begun before."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or self._side is None or ahead[0] != number:
            return None
        torch.cuda.current_stream(self.device).wait_stream(self._side)
        return ahead[1]

    def _play_ahead(self, number: int) -> None:
        """Begin to play a chunk on a stream of its own, beside what is trained meanwhile."""
        is_wanted = self.num_batches is None and self._plays_ahead and self.device.type == "cuda"
        if not is_wanted or chunk_problem(self.settings, self.device, self.needs):
            return
        self._side = self._side or torch.cuda.Stream(self.device)
        # Memory of the chunk before last, which may still be read, is used again.
        self._side.wait_stream(torch.cuda.current_stream(self.device))
        try:
            with torch.cuda.stream(self._side):
                self._ahead = number, self._played(number)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._plays_ahead = False
            _logger.warning("games are played when they are needed: no memory for more of them")

    def _played(self, number: int) -> Chunk:
        # In Triton nothing is copied but lengths; plain torch looks at every ply's results.
        with owned("games"):
            return self._play(number)

    def launch(self) -> None:
        """Launch the kernel that a chunk's games are played by, if there is one; keep nothing."""
        if resolve_backend(self.settings.backend, self.device) == "triton":
            self._games(0, trim=False)

    def _play(self, number: int) -> Chunk:
        # On a GPU the host would have to wait for the games' lengths.
        trim = self.device.type != "cuda" and self.settings.context is None
        return self._cut(self._games(number, trim))

    def _games(self, number: int, trim: bool) -> GameRecord:
        settings = self.settings
        return play_games(
            settings.player,
            self.numbers(number),
            seed=settings.seed,
            board_size=settings.board_size,
            rules=settings.rules,
            device=self.device,
            backend=settings.backend,
            needs=self.needs,
            skip_settled=settings.skip_settled,
            trim=trim,
        )

    def _cut(self, record: GameRecord) -> Chunk:
        settings = self.settings
        return Chunk(record, settings.context, settings.num_windows, self.length_step)
