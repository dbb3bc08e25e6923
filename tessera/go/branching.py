"""Games copied onto others, in place: a search's positions, each of which goes on several ways.

Shapes: B games, K pairs of games, n rows.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tessera.go.bitboard import select_games
from tessera.go.contract import whole_numbers
from tessera.go.position import Position
from tessera.go.rules import Rules

if TYPE_CHECKING:
    from tessera.go.engine import GPUGoEngine

_PER_GAME = (
    *("turn", "move_number", "history", "captured", "passes", "ko_point", "last_captures"),
    "taken_sides",
)


def tensors_of(engine: GPUGoEngine) -> tuple[list[Tensor], list[Tensor]]:
    """All that an engine holds of its games: sets of points (n, B), and the rest, (B, …)."""
    position = engine.position
    sets = [position.own, position.opponent, position.atari]
    others = [getattr(engine, name) for name in _PER_GAME]
    if engine.superko is not None:
        own_lost, opponent_lost, *words = engine.superko.per_game_tensors()
        sets += [own_lost, opponent_lost]
        others += words
    return sets, others


def kind_of(engine: GPUGoEngine) -> tuple[torch.device, int, Rules, str, bool]:
    """What engines have in common whose games may become copies of each other's.

    Behind a number of games these are the arguments of an engine.
    """
    return engine.device, engine.board_size, engine.rules, engine.backend, engine.skip_settled


def num_bytes(engine: GPUGoEngine) -> int:
    """Bytes that the games hold on the device, everything they remember included."""
    sets, others = tensors_of(engine)
    return sum(tensor.numel() * tensor.element_size() for tensor in (*sets, *others))


def keep(engine: GPUGoEngine, games: Tensor) -> None:
    """Put new tensors in the place of all, of these games only; see ``GPUGoEngine.keep``."""
    games = whole_numbers("games", games, (None,)).to(engine.device, torch.int64)
    if ((games < 0) | (games >= engine.batch_size)).any():
        raise ValueError(f"games must be numbers from 0 to {engine.batch_size - 1}.")
    engine.forget_found()
    sets = (engine.position.own, engine.position.opponent, engine.position.atari)
    engine.position = Position(*(select_games(rows, games) for rows in sets))
    for name in _PER_GAME:
        setattr(engine, name, getattr(engine, name)[games])
    if engine.superko is not None:
        engine.superko.keep(games)


def copies(engine: GPUGoEngine, games: Tensor) -> GPUGoEngine:
    """An engine of copies of these games (K,), which share nothing with the others."""
    copied = copy(engine)
    copied.superko = copy(engine.superko)
    copied.keep(games)  # which puts new tensors in the place of all
    return copied


def copy_games(
    origin: GPUGoEngine, sources: Tensor, targets: Tensor, engine: GPUGoEngine | None = None
) -> None:
    """Let games of one engine become copies of games of another, or of its own, in place.

    Everything goes along: stones, moves, counters, and the positions that superko forbids. Does not
    wait for the device, and may be captured in a CUDA graph.

    Args:
        origin: whose games are copied.
        sources: (K,) int64, their numbers; one may stand several times.
        targets: (K,) int64, the games that become copies; none stands twice.
        engine: whose games these are, of the same kind, see ``kind_of``; None for ``origin``.
    """
    engine = engine or origin
    assert kind_of(engine) == kind_of(origin)
    engine.forget_found()
    if engine.backend == "triton" and engine is not origin:
        from tessera.go.kernels.branching import copy_in_kernel

        copy_in_kernel(origin, sources, targets, engine)
        return
    for axis, olds, news in zip((1, 0), tensors_of(origin), tensors_of(engine), strict=True):
        for old, new in zip(olds, news, strict=True):
            # All are read before any is written: a game may be source and target.
            new.index_copy_(axis, targets, old.index_select(axis, sources))


def checked_pairs(engine: GPUGoEngine, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both as int64 on the engine's device.

    Raises:
        ValueError: if they are not as many whole numbers; on a CPU also if one is no game's.
    """
    sources = whole_numbers("sources", sources, (None,))
    targets = whole_numbers("targets", targets, (len(sources),))
    for name, numbers in (("sources", sources), ("targets", targets)):
        if numbers.device.type == "cpu" and len(numbers):
            low, high = int(numbers.min()), int(numbers.max())
            if low < 0 or high >= engine.batch_size:
                wrong = low if low < 0 else high
                raise ValueError(f"{name} must be 0 to {engine.batch_size - 1}, got {wrong}.")
    device = engine.device
    return sources.to(device, torch.int64), targets.to(device, torch.int64)
