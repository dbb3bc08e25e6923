"""Stage 2 of ``fixed_point``: contexts are made once and kept, and positions come in any order.

Shape suffixes: B games, L positions of a game, T positions, K contexts that are read, C numbers of
a context.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tessera.data import GameBatch, GameStream
from tessera.model import GameModel
from tessera.signals import Stopped, active_signals
from tessera.training.checkpointing import TrainingCheckpoint
from tessera.training.objectives.context_cache import ContextCache, bytes_of, check_room, discard
from tessera.training.objectives.context_stage import context_mixer
from tessera.training.objectives.positions import Positions, shuffled
from tessera.transfers import to_host

if TYPE_CHECKING:
    from tessera.training.module import TesseraModule
    from tessera.training.objectives.fixed_point import FixedPointSettings

_MOST_OF_GPU = 0.6  # of what is free there
FOLDER = "contexts"  # beside last.ckpt


class TokenStage:
    """The positions of the first games of a stream with their contexts, batch by batch.

    Making the contexts is begun behind a checkpoint, and gone on with where it was stopped.

    Args:
        module: in training.
        games: the stream.
        settings: of the objective.
        first: the batch to begin with.

    Raises:
        OSError: if the disk has no room for the contexts.
        Stopped: if a signal was received meanwhile.
    """

    def __init__(
        self, module: TesseraModule, games: GameStream, settings: FixedPointSettings, first: int
    ) -> None:
        model, mixer = module.model, context_mixer(module.model)
        batches = num_batches(settings, games)
        self._positions = Positions(games, batches, model.pad_token, mixer.inputs)
        count = len(self._positions)
        shape = (count, mixer.num_read, mixer.context.d_context)
        self.folder = _folder(module, settings.cache, bytes_of(shape))
        key = _key(module, games)
        self._cache = ContextCache(shape, key, self.folder, module.device)
        self._make(module)
        size = settings.token_batch or round(count / batches)
        self._rows = shuffled(count, min(size, count), settings.seed, first)
        self._beside: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def _make(self, module: TesseraModule) -> None:
        trainer, positions = module.trainer, self._positions
        if self._cache.pieces_done < len(positions.sizes):
            _save(module)
        context = trainer.precision_plugin.val_step_context

        def piece(number: int) -> Tensor:
            with torch.no_grad(), context():
                made = made_contexts(module.model, positions.tokens[number])
            return positions.of_batch(number, torch.stack(made, 2).float())

        def after_piece(done: int, of: int) -> None:
            signals = active_signals()
            if signals is not None and signals.received is not None:
                raise Stopped(signals.received)
            say = getattr(trainer.progress_bar_callback, "say", None)
            if say is not None:
                say(f"contexts of {done} of {of} batches of games")

        is_training = module.training
        module.eval()
        self._cache.make(positions.sizes, piece, after_piece)
        module.train(is_training)
        positions.tokens.clear()

    def next_batch(self) -> GameBatch:
        """The next positions as sequences of one; their contexts are kept for ``read``."""
        rows = next(self._rows)
        on_device = rows.to(self._cache.device)
        batch, windows = self._positions.batch(0, on_device)
        contexts = self._cache.rows(on_device if self._cache.place == on_device.device else rows)
        self._beside = windows, contexts
        return batch

    def read(self, model: GameModel, batch: GameBatch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last vectors (T, H) of the newest batch, and the map of its features if any."""
        assert self._beside is not None
        tokens_TK, contexts = self._beside
        with torch.no_grad():
            vectors_TKH = model.token_vectors(tokens_TK)
            normed = nn.functional.layer_norm(vectors_TKH, (model.d_model,))
        hidden_TH = context_mixer(model).read(normed.flatten(1), contexts)
        if model.features is None:
            return hidden_TH, ()
        tables = batch.features(model.features.table)
        is_pad = torch.zeros_like(batch.inputs, dtype=torch.bool)
        (_, board_map), _ = model.features.encode(tables, batch.inputs, is_pad, None)
        return hidden_TH, () if board_map is None else (board_map,)

    def discard(self) -> None:
        """Remove the file, if there is one."""
        if self.folder is not None:
            discard(self.folder)


def made_contexts(model: GameModel, tokens_BL: Tensor) -> tuple[Tensor, ...]:
    """The contexts (B, L, C) that the token block reads, made as validation makes them."""
    mixer = context_mixer(model)
    windows = mixer.windows(model.token_vectors(tokens_BL))
    found = mixer.contexts(windows, tokens_BL == model.pad_token)
    return mixer.that_are_read(found)


def check_room_for(module: TesseraModule, games: GameStream, settings: FixedPointSettings) -> None:
    """Raise OSError unless there is room for the contexts of games that are as long as they can be.

    Args:
        module, games, settings: as of ``TokenStage``.
    """
    own, mixer = games.settings, context_mixer(module.model)
    length = own.context or own.rules.move_limit(own.board_size) + 1
    count = num_batches(settings, games) * own.batch_size * length
    num_bytes = bytes_of((count, mixer.num_read, mixer.context.d_context))
    folder = _folder(module, settings.cache, num_bytes)
    if folder is not None:
        check_room(folder, num_bytes)


def num_batches(settings: FixedPointSettings, games: GameStream) -> int:
    """How many batches of games are kept."""
    return -(-settings.cached_games // games.settings.batch_size)


def _folder(module: TesseraModule, cache: str, num_bytes: int) -> Path | None:
    """Where the contexts go; None for memory."""
    beside = run_checkpoint(module)
    if cache == "memory" or beside is None:
        return None
    device = module.device
    if cache == "auto" and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        if num_bytes <= _MOST_OF_GPU * free:
            return None
    return beside.path.parent / FOLDER


def run_checkpoint(module: TesseraModule) -> TrainingCheckpoint | None:
    """What writes the run's ``last.ckpt``, if anything does."""
    callbacks = module.trainer.callbacks  # type: ignore[attr-defined]
    return next((each for each in callbacks if isinstance(each, TrainingCheckpoint)), None)


def _save(module: TesseraModule) -> None:
    """Write ``last.ckpt``, so that whoever stops what comes now goes on with it."""
    trainer, callback = module.trainer, run_checkpoint(module)
    if callback is not None and 0 < trainer.global_step != callback.last_saved_step:
        callback.save(trainer, module)


def _key(module: TesseraModule, games: GameStream) -> str:
    """A digest of everything that contexts depend on."""
    digest = hashlib.sha256(repr(games.settings).encode())
    digest.update(f"{games.first_number} {module.device.type}".encode())
    digest.update(f"{module.trainer.precision} {module.trainer.world_size}".encode())
    for part in (module.model.embedding, context_mixer(module.model).context):
        for name, weight in part.state_dict().items():
            content = to_host(weight.float(), "contexts").contiguous()
            digest.update(name.encode())
            digest.update(bytes(content.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
