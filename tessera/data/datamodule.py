"""GameDataModule: training, validation and test streams for a Lightning trainer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, Protocol

import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from tessera.data.batch import GameBatch
from tessera.data.batch_size import (
    USUAL,
    BatchTrials,
    at_most,
    follows_memory,
    sizes_of,
    trials_of,
)
from tessera.data.chunk_size import games_that_fit, whole_batches
from tessera.data.selfplay_stream import MixedStream, SelfPlayStream, Weights
from tessera.data.settings import StreamSettings
from tessera.data.stream import TEST_NUMBERS, TRAIN_NUMBERS, VAL_NUMBERS, GameStream
from tessera.go import Player, Rules
from tessera.go.rules import resolve_rules
from tessera.setting_errors import Problem, SettingError, noted, number, problems_of, whole
from tessera.vocabulary import MAX_CONTEXT

_LENGTH_STEP = 32  # on a GPU, where a training step is captured once for each length
_ALLOWED = {
    "val_batches": whole(1),
    "test_batches": whole(1),
    "selfplay_share": number("0 to 1", lambda share: 0 <= share <= 1),
    "selfplay_temperature": number("more than 0", lambda temperature: temperature > 0),
}


class OwnStream(Protocol):
    """What a module in training learns from, if not from the games of a player.

    Attributes:
        start_batch: the number of the batch that iteration begins with, from 0; it may be moved
            between iterations.
    """

    start_batch: int

    def __iter__(self) -> Iterator[Any]:
        """Batches that have their number as ``index``. Loaders take some before the step before."""
        ...

    def taken(self, batch: Any) -> Any:
        """What is trained on, with the same ``index``; asked for behind the step before it.

        A batch may so be a promise, which is kept in the order of the steps and not before.
        """
        ...


class Learner(Protocol):
    """What a module in training tells the data that it is trained on.

    Attributes:
        model: what learns.
        needs: the optional tables that its training needs; one without this attribute needs none.
        held_out_needs: those that its validation and its test need.
    """

    model: nn.Module
    needs: tuple[str, ...]
    held_out_needs: tuple[str, ...]

    def training_stream(self, games: GameStream | MixedStream) -> OwnStream | None:
        """What it trains on in place of the player's games; None for those, as without it.

        Args:
            games: their stream; nothing is played before it is asked for a batch.
        """
        ...

    def batch_size_that_fits(self, trials: BatchTrials) -> int:
        """How many sequences its batches are to have, where the settings leave it to the memory."""
        ...

    def new_player(self, model: nn.Module, temperature: float, dtype: torch.dtype) -> Player:
        """The player that a model like its own is.

        Args:
            model: a copy of it.
            temperature: the logits are divided by it; below 1 likely moves are likelier.
            dtype: of the model's matrix products, float32 or bfloat16.
        """
        ...


class GameDataModule(LightningDataModule):
    """Games played on the training device, as batches.

    Training never repeats a game and never ends. Validation and test see the same games each time,
    from number ranges that training does not reach. The position in the training stream is saved
    with a checkpoint as the number of batches trained on, which is the same on every rank.

    Args:
        board_size: n, 2 to 19; the model's vocabulary follows from it.
        rules: a preset: full, phase2 or tromp-taylor.
        komi: instead of the preset's; points added to white's area.
        ko: instead of the preset's: simple, positional or situational.
        suicide: instead of the preset's: whether suicide is allowed.
        max_moves: instead of the preset's 2·n²: plies after which a game is over.
        score: instead of the preset's: area, or pass_alive to count dead stones inside pass-alive
            territory for its owner.
        player: who plays both colours: uniform or rules.
        skip_settled: leave settled points alone, those that no attack can change: the players do
            not choose them, the loss and the metrics do not count what a model gives them.
        batch_size: sequences in a batch, on each device; auto, or null, for as many as its memory
            has room for in a whole step of training, found when a run begins and kept when it is
            resumed. A CPU takes 64.
        context: moves in a window, cut anywhere in a game; null for whole games.
        games_per_chunk: games played at once; more is faster on a GPU and takes more memory. null
            lets the free memory decide when a run begins; it is kept when the run is resumed.
        windows_per_game: windows cut from each game; null for about one per context moves.
        seed: of the games; the weights' seed is seed_everything.
        val_batches: batches of a validation.
        test_batches: batches of a test.
        backend: of the engine: auto, torch or triton.
        selfplay_share: part of the training sequences, 0 to 1, that come from games of the model in
            training against itself; the rest is the player's.
        selfplay_temperature: divides the logits in those games; below 1 likely moves are likelier.

    Raises:
        SettingError: with a problem for every argument that is out of range.
    """

    def __init__(
        self,
        board_size: int = 19,
        rules: str = "full",
        komi: float | None = None,
        ko: str | None = None,
        suicide: bool | None = None,
        max_moves: int | None = None,
        score: str | None = None,
        player: str = "rules",
        skip_settled: bool = False,
        batch_size: int | Literal["auto"] | None = 64,
        context: int | None = MAX_CONTEXT,
        games_per_chunk: int | None = 1024,
        windows_per_game: int | None = None,
        seed: int = 0,
        val_batches: int = 16,
        test_batches: int = 64,
        backend: str = "auto",
        selfplay_share: float = 0.0,
        selfplay_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        problems: list[Problem] = []
        game_rules = Rules()
        own: dict[str, Any] = {
            "komi": komi,
            "ko": ko,
            "suicide": suicide,
            "max_moves": max_moves,
            "score": score,
        }
        given = {name: value for name, value in own.items() if value is not None}
        with noted(problems):
            game_rules = dataclasses.replace(resolve_rules(rules), **given)
        self.val_batches, self.test_batches = val_batches, test_batches
        self.selfplay_share, self.selfplay_temperature = selfplay_share, selfplay_temperature
        problems += problems_of(self, _ALLOWED)
        # Before there is a device, one batch stands for a number that its memory decides.
        self._games_follow_memory = games_per_chunk is None
        self._batches_follow_memory = is_auto = False
        with noted(problems):
            self._batches_follow_memory = is_auto = follows_memory(batch_size)
        size: Any = 1 if batch_size is None or isinstance(batch_size, str) else batch_size
        with noted(problems):
            self.settings = StreamSettings(
                board_size=board_size,
                rules=game_rules,
                player=player,
                skip_settled=skip_settled,
                batch_size=size,
                context=context,
                games_per_chunk=max(1, size) if games_per_chunk is None else games_per_chunk,
                windows_per_game=windows_per_game,
                seed=seed,
                backend=backend,
            )
        if problems:
            raise SettingError(*problems)
        self._sizes = sizes_of(self.settings, self._games_follow_memory) if is_auto else ()
        if is_auto:
            self._take_batch_size(USUAL)
        self.batches_trained = 0
        self._train_stream: GameStream | MixedStream | OwnStream | None = None
        self._selfplay: SelfPlayStream | None = None
        self._selfplay_weights: dict[int, Weights] = {}

    def setup(self, stage: str) -> None:
        """Let the first process's memory decide how many games are played at once, if asked to."""
        if self._games_follow_memory and self.trainer is not None:
            strategy = self.trainer.strategy
            device, needs = strategy.root_device, self._needs()
            games = strategy.broadcast(games_that_fit(self.settings, device, needs))
            self.settings = dataclasses.replace(self.settings, games_per_chunk=games)

    def train_dataloader(self) -> DataLoader[GameBatch]:
        """The endless training stream, from the first batch that was not trained on."""
        find = getattr(self._learner(), "batch_size_that_fits", None)
        if self._batches_follow_memory and find is not None:
            needs, held_out_needs = self._needs(), self._needs("held_out_needs")
            place, held_out = self._place(), self.val_batches
            trials = trials_of(self.settings, self._sizes, place, needs, held_out_needs, held_out)
            self._take_batch_size(find(trials))
            self._batches_follow_memory = False  # found, and kept from now on
        played, selfplayed = self._parts()
        streams = [] if played is None else [self._player_stream(played)]
        if selfplayed is not None:
            self._selfplay = self._selfplay_stream(selfplayed)
            streams.append(self._selfplay)
        for part in streams:
            if part.device.type == "cuda":
                part.length_step = _LENGTH_STEP
        stream = streams[0] if len(streams) == 1 else MixedStream(streams)
        new_stream = getattr(self._learner(), "training_stream", None)
        own = None if new_stream is None else new_stream(stream)
        self._train_stream = stream if own is None else own
        self._train_stream.start_batch = self.batches_trained
        return _loader(self._train_stream)

    def launch_games(self) -> None:
        """Launch the kernel that plays a chunk of the training games; keep nothing of it."""
        played, _ = self._parts()
        if played is not None:
            self._player_stream(played).launch()

    def val_dataloader(self) -> DataLoader[GameBatch]:
        """The validation batches, with the tables that the module needs."""
        return self._held_out(VAL_NUMBERS, self.val_batches)

    def test_dataloader(self) -> DataLoader[GameBatch]:
        """The test batches, with the tables that the module needs."""
        return self._held_out(TEST_NUMBERS, self.test_batches)

    def transfer_batch_to_device(
        self, batch: GameBatch, device: torch.device, dataloader_idx: int
    ) -> GameBatch:
        """The batch as it is: its games were played on the device."""
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count a batch as trained on, when the trainer takes it up: loaders take some early."""
        if self._train_stream is not None and self.trainer is not None and self.trainer.training:
            if not isinstance(self._train_stream, GameStream | MixedStream):
                batch = self._train_stream.taken(batch)
            self.batches_trained = self._train_stream.start_batch = batch.index + 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The position in the training stream, how a chunk of it is cut, and who played it."""
        part = next(part for part in self._parts() if part is not None)
        return {
            "batches_trained": self.batches_trained,
            "batches_per_chunk": part.batches_per_chunk,
            "games_per_chunk": part.games_per_chunk * self._world_size(),
            "games_that_fit": self.settings.games_per_chunk,
            "batch_size": self.settings.batch_size,
            "selfplay_weights": {} if self._selfplay is None else self._selfplay.weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the batches trained on.

        If chunks are now cut differently (another batch size, another number of processes), go on
        with the first chunk of which no game was seen.
        """
        if self._batches_follow_memory and "batch_size" in state_dict:
            self._take_batch_size(state_dict["batch_size"])
            self._batches_follow_memory = False
        if self._games_follow_memory:
            # Before a model could play against itself, there was only one number of games.
            played = state_dict["games_per_chunk"] // self._world_size()
            games = state_dict.get("games_that_fit", played)
            games = whole_batches(games, self.settings.batch_size, self.settings.num_windows)
            self.settings = dataclasses.replace(self.settings, games_per_chunk=games)
        here = self.state_dict()
        position = state_dict["batches_trained"]
        if any(here[key] != state_dict[key] for key in ("batches_per_chunk", "games_per_chunk")):
            chunks = math.ceil(position / state_dict["batches_per_chunk"])
            chunks = math.ceil(chunks * state_dict["games_per_chunk"] / here["games_per_chunk"])
            position = chunks * here["batches_per_chunk"]
        self.batches_trained = position
        self._selfplay_weights = state_dict.get("selfplay_weights", {})

    def _held_out(self, first_number: int, num_batches: int) -> DataLoader[GameBatch]:
        # One chunk holds them all, so the stream keeps it and plays the games only once.
        rows = num_batches * self.settings.batch_size
        windows = self.settings.num_windows
        # A whole number of batches in the chunk, although only num_batches of them are used.
        games = whole_batches(math.ceil(rows / windows), self.settings.batch_size, windows)
        settings = dataclasses.replace(self.settings, games_per_chunk=games)
        stream = GameStream(
            settings,
            first_number=first_number,
            num_batches=num_batches,
            needs=self._needs("held_out_needs"),
            **self._place(),
        )
        return _loader(stream)

    def _take_batch_size(self, size: int) -> None:
        """Let batches be of the largest size that there is and that is no larger."""
        size, games = at_most(size, self._sizes), self.settings.games_per_chunk
        if self._games_follow_memory:
            games = whole_batches(games, size, self.settings.num_windows)
        self.settings = dataclasses.replace(self.settings, batch_size=size, games_per_chunk=games)

    def _player_stream(self, settings: StreamSettings) -> GameStream:
        place = self._place()
        return GameStream(settings, first_number=TRAIN_NUMBERS, needs=self._needs(), **place)

    def _parts(self) -> tuple[StreamSettings | None, StreamSettings | None]:
        """The player's and the model's part of a training batch, None for an empty one."""
        rows = round(self.selfplay_share * self.settings.batch_size)

        def part(rows: int) -> StreamSettings | None:
            if rows == 0:
                return None
            games = math.ceil(self.settings.games_per_chunk * rows / self.settings.batch_size)
            games = whole_batches(games, rows, self.settings.num_windows)
            return dataclasses.replace(self.settings, batch_size=rows, games_per_chunk=games)

        return part(self.settings.batch_size - rows), part(rows)

    def _selfplay_stream(self, settings: StreamSettings) -> SelfPlayStream:
        trainer, learner = self.trainer, self._learner()
        if trainer is None or learner is None:
            must = "be 0 without a trainer and its model"
            raise SettingError(Problem("selfplay_share", self.selfplay_share, must))
        dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
        stream = SelfPlayStream(
            learner.model,
            partial(learner.new_player, temperature=self.selfplay_temperature, dtype=dtype),
            settings,
            needs=self._needs(),
            **self._place(),
        )
        stream.weights = self._selfplay_weights
        return stream

    def _place(self) -> dict[str, Any]:
        """Where a stream plays, and for which of how many processes."""
        trainer = self.trainer
        if trainer is None:
            return {}
        device, rank = trainer.strategy.root_device, trainer.global_rank
        return {"device": device, "rank": rank, "world_size": trainer.world_size}

    def _learner(self) -> Learner | None:
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        # Not isinstance: from Python 3.12 on it sees nothing that a module looks up itself.
        return module if hasattr(module, "held_out_needs") else None

    def _needs(self, whose: str = "needs") -> tuple[str, ...]:
        """The optional tables that training needs, or those that the learner lists elsewhere."""
        needs: tuple[str, ...] = getattr(self._learner(), whose, ())
        return (*needs, "settled") if self.settings.skip_settled else needs

    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size


class _Batches(IterableDataset[Any]):
    """What only iterates, as a dataset."""

    def __init__(self, stream: OwnStream) -> None:
        super().__init__()
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        return iter(self.stream)


def _loader(stream: GameStream | MixedStream | OwnStream) -> DataLoader[Any]:
    """A loader that hands over the stream's batches as they are, in this process."""
    dataset = stream if isinstance(stream, IterableDataset) else _Batches(stream)
    return DataLoader(dataset, batch_size=None, num_workers=0)
