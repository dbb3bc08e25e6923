"""How many sequences a batch has where the settings leave it to the device's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tessera.data.batch import GameBatch
from tessera.data.chunk_size import whole_batches
from tessera.data.settings import StreamSettings
from tessera.data.stream import TRAIN_NUMBERS, VAL_NUMBERS, GameStream
from tessera.setting_errors import Problem, SettingError

AUTO = "auto"
USUAL = 64  # the default, a CPU's number, and that of games which are only measured
_MOST = 65_536


@dataclass(frozen=True)
class BatchTrials:
    """What a learner finds the largest batch with that its memory has room for.

    Attributes:
        sizes: that a batch may have, each at least twice as large as the one before.
        usual: the one of them that is taken where memory does not decide.
        games: the player's games, as a stream whose first batch has so many sequences, all as long
            as any can be.
        held_out: a batch of so many sequences as a validation measures it.
        bytes_beside: what games take that are held while batches of so many are trained on.
    """

    sizes: tuple[int, ...]
    usual: int
    games: Callable[[int], GameStream]
    held_out: Callable[[int], GameBatch]
    bytes_beside: Callable[[int], int]


def follows_memory(batch_size: Any) -> bool:
    """Whether a value of ``batch_size`` leaves it to the memory.

    Raises:
        SettingError: for any text but auto.
    """
    if isinstance(batch_size, str) and batch_size != AUTO:
        raise SettingError(Problem("batch_size", batch_size, f"be a whole number, {AUTO} or null"))
    return batch_size is None or batch_size == AUTO


def sizes_of(settings: StreamSettings, games_follow: bool) -> tuple[int, ...]:
    """Sizes that a batch may have, see ``BatchTrials.sizes``; the first is 1.

    Args:
        settings: of the stream, whose own ``batch_size`` is not looked at.
        games_follow: whether the number of games at once follows from the size; otherwise their
            sequences must be whole batches.
    """
    if games_follow:
        return tuple(2**power for power in range(_MOST.bit_length()))
    sizes, rows = [1], settings.rows_per_chunk
    for size in range(2, min(rows, _MOST) + 1):
        if rows % size == 0 and size >= 2 * sizes[-1]:
            sizes.append(size)
    return tuple(sizes)


def at_most(limit: int, sizes: tuple[int, ...]) -> int:
    """The largest of these sizes that is no larger."""
    return max(size for size in sizes if size <= limit)


def trials_of(
    settings: StreamSettings,
    sizes: tuple[int, ...],
    place: Mapping[str, Any],
    needs: Collection[str],
    held_out_needs: Collection[str],
    val_batches: int,
) -> BatchTrials:
    """What a learner tries.

    Args:
        settings: of the training's games.
        sizes: that a batch may have.
        place: where games are played, and for which of how many processes, as for ``GameStream``.
        needs, held_out_needs: the tables that training and validation need.
        val_batches: batches of a validation.
    """

    def games_of(size: int, first_number: int, needs: Collection[str]) -> GameStream:
        games = whole_batches(1, size, settings.num_windows)
        own = replace(settings, batch_size=size, games_per_chunk=games)
        stream = GameStream(own, first_number=first_number, num_batches=1, needs=needs, **place)
        stream.length_step = 1 + settings.rules.move_limit(settings.board_size)
        return stream

    def bytes_beside(size: int) -> int:
        # The chunk that is trained on, and the one that is played meanwhile.
        games = 2 * whole_batches(settings.games_per_chunk, size, settings.num_windows)
        held_out = math.ceil(val_batches * size / settings.num_windows)
        of_training = games * settings.bytes_per_game(needs)
        return of_training + held_out * settings.bytes_per_game(held_out_needs)

    return BatchTrials(
        sizes,
        at_most(USUAL, sizes),
        lambda size: games_of(size, TRAIN_NUMBERS, needs),
        lambda size: games_of(size, VAL_NUMBERS, held_out_needs).batch(0),
        bytes_beside,
    )
