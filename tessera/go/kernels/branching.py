"""Games copied onto games of another engine, one warp a game; beside ``go/branching.py``.

Shapes: K pairs, B games, n rows, T = max_moves plies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current
from tessera.go.kernels.board import LANES

if TYPE_CHECKING:
    from tessera.go.engine import GPUGoEngine

_CHUNK = tl.constexpr(128)  # entries that are copied at once, four loads a lane


def copy_in_kernel(
    origin: GPUGoEngine, sources: Tensor, targets: Tensor, engine: GPUGoEngine
) -> None:
    """Let games ``targets`` (K,) int64 of an engine become copies of games of another one."""
    if not len(sources):
        return
    with current(engine.device):
        branch_kernel[(len(sources),)](
            sources.contiguous(),
            targets.contiguous(),
            *_arguments(origin),
            *_arguments(engine),
            engine.max_moves,
            SIZE=engine.board_size,
            WITH_SUPERKO=engine.superko is not None,
            num_warps=1,
            enable_fp_fusion=True,
        )


def _arguments(engine: GPUGoEngine) -> tuple[Tensor, ...]:
    """The engine's tensors in the order of the kernel's arguments."""
    position, superko = engine.position, engine.superko
    assert position.own.t().is_contiguous()
    own = (
        *(engine.turn, engine.move_number, engine.passes, engine.ko_point, engine.last_captures),
        *(engine.taken_sides, engine.captured, engine.history),
    )
    # Under simple ko nothing is read or written there.
    more = (engine.turn,) * 7 if superko is None else superko.per_game_tensors()
    return (position.own, position.opponent, position.atari, *own, *more)


@triton.jit
def _copy_rows(old, new, source, target, SIZE: tl.constexpr):
    """A set of points out of (B, n)."""
    lane = tl.arange(0, LANES)
    rows = tl.load(old + source * SIZE + lane, mask=lane < SIZE, other=0)
    tl.store(new + target * SIZE + lane, rows, mask=lane < SIZE)


@triton.jit
def _copy_one(old, new, source, target):
    """A number out of (B,)."""
    tl.store(new + target, tl.load(old + source))


@triton.jit
def _copy_entries(old, new, count):
    """The first entries of what both point at."""
    start = 0
    while start < count:
        at = start + tl.arange(0, _CHUNK)
        tl.store(new + at, tl.load(old + at, mask=at < count), mask=at < count)
        start += _CHUNK


@triton.jit
def branch_kernel(
    sources,
    targets,
    own_rows,
    opponent_rows,
    atari_rows,
    turns,
    move_numbers,
    passes,
    ko_points,
    last_captures,
    taken_sides,
    captured,
    history,
    own_lost_rows,
    opponent_lost_rows,
    own_exposed_flags,
    opponent_exposed_flags,
    hashes,
    positions,
    filters,
    to_own_rows,
    to_opponent_rows,
    to_atari_rows,
    to_turns,
    to_move_numbers,
    to_passes,
    to_ko_points,
    to_last_captures,
    to_taken_sides,
    to_captured,
    to_history,
    to_own_lost_rows,
    to_opponent_lost_rows,
    to_own_exposed_flags,
    to_opponent_exposed_flags,
    to_hashes,
    to_positions,
    to_filters,
    max_moves,
    SIZE: tl.constexpr,
    WITH_SUPERKO: tl.constexpr,
):
    """Copy one game of each pair; see ``copy_games``.

    Args:
        sources, targets: (K,) int64.
        own_rows to filters: of the games that are copied, as for ``play_kernel``.
        to_own_rows to to_filters: of those that become copies.
        max_moves: plies of the longest game.
        WITH_SUPERKO: whether there is what superko remembers.
    """
    pair = tl.program_id(0)
    source = tl.load(sources + pair)
    target = tl.load(targets + pair)
    # Behind the newer of the two plies both hold what no ply has written.
    ply = tl.load(move_numbers + source).to(tl.int32)
    ply = tl.maximum(ply, tl.load(to_move_numbers + target).to(tl.int32))
    _copy_rows(own_rows, to_own_rows, source, target, SIZE)
    _copy_rows(opponent_rows, to_opponent_rows, source, target, SIZE)
    _copy_rows(atari_rows, to_atari_rows, source, target, SIZE)
    _copy_one(turns, to_turns, source, target)
    _copy_one(move_numbers, to_move_numbers, source, target)
    _copy_one(passes, to_passes, source, target)
    _copy_one(ko_points, to_ko_points, source, target)
    _copy_one(last_captures, to_last_captures, source, target)
    _copy_one(taken_sides, to_taken_sides, source, target)
    _copy_entries(captured + source * 2, to_captured + target * 2, 2)
    _copy_entries(history + source * max_moves, to_history + target * max_moves, ply)
    if WITH_SUPERKO:
        _copy_rows(own_lost_rows, to_own_lost_rows, source, target, SIZE)
        _copy_rows(opponent_lost_rows, to_opponent_lost_rows, source, target, SIZE)
        _copy_one(own_exposed_flags, to_own_exposed_flags, source, target)
        _copy_one(opponent_exposed_flags, to_opponent_exposed_flags, source, target)
        _copy_one(hashes, to_hashes, source, target)
        width = max_moves + 1
        _copy_entries(positions + source * width, to_positions + target * width, ply + 1)
        _copy_entries(filters + source * 128, to_filters + target * 128, 128)
