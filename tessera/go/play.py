"""Playing whole games of the built-in players: in the fused kernels, or in the loop.

Shapes: G games, T plies of the longest of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tessera.accelerator import memory_problem
from tessera.go.backend import check_device, resolve_backend
from tessera.go.contract import whole_numbers
from tessera.go.loop import GameLoop
from tessera.go.players import get_player
from tessera.go.record import GameRecord, bytes_per_ply, kept_tables
from tessera.go.rules import Rules, check_skip_settled, resolve_rules
from tessera.setting_errors import whole_number
from tessera.vocabulary import check_board_size

_GAMES_AT_ONCE = 4096  # enough to make torch's cost per call small; more falls out of the cache
_MOST_NUMBER = 2**61  # so that no step from one to another overflows 64 bits


def play_games(
    player: str,
    numbers: range | Tensor,
    *,
    seed: int,
    board_size: int,
    rules: str | Rules = "full",
    device: str | torch.device = "cpu",
    backend: str = "auto",
    needs: Collection[str] = (),
    skip_settled: bool = False,
    trim: bool = True,
) -> GameRecord:
    """Play one game for each number, from start to end.

    Game k is a pure function of (seed, k, player, rules, board_size, skip_settled): it is the same
    in every batch and on every device.

    Args:
        player: a built-in player's name, who plays both colours.
        numbers: the games' numbers, a range or (G,) int64; at least one.
        seed: any whole number.
        board_size: n, 2 to 19.
        rules: a preset's name or a Rules record.
        device: where to play and where the record lives.
        backend: as for GPUGoEngine.
        needs: the optional tables to keep: ``legal``, ``board``, ``landmarks``, ``settled``.
        skip_settled: whether the players leave settled points alone, see ``settled``; they pass
            where no other point is left.
        trim: whether T is the length of the longest game; otherwise T is the move limit, and on a
            CUDA device nothing waits for the games to be played.

    Raises:
        ValueError: for an unknown player or table, an argument that GPUGoEngine refuses, no
            numbers, or settled points by rules that capture single stones only.
        MemoryError: if the device has less memory than the record of so many games takes.
    """
    get_player(player)
    board_size = check_board_size("board_size", board_size)
    rules = resolve_rules(rules)
    seed = whole_number("seed", seed)
    device = check_device(device)
    tables = kept_tables(needs)
    check_skip_settled(skip_settled, rules)
    if "settled" in tables and rules.capture == "single":
        raise ValueError("needs must be without settled where only single stones are captured.")
    limit = rules.move_limit(board_size)
    in_kernels = resolve_backend(backend, device) == "triton"
    # Plain torch cuts a record to its games' lengths, of which only the least is known before.
    plies = limit if in_kernels else 1
    numbers = _game_numbers(numbers, plies * bytes_per_ply(tables, board_size), device)
    if in_kernels:
        from tessera.go.kernels.games import play_tables

        played = play_tables(
            player,
            numbers,
            seed=seed,
            board_size=board_size,
            rules=rules,
            tables=tables,
            skip_settled=skip_settled,
        )
        record = GameRecord(
            board_size, rules, player, seed, numbers, **played, skip_settled=skip_settled
        )
        return record.trimmed() if trim else record

    def play(part: Tensor) -> GameRecord:
        loop = GameLoop(
            get_player(player),
            len(part),
            board_size=board_size,
            device=device,
            rules=rules,
            seed=seed,
            backend="torch",
            skip_settled=skip_settled,
            tables=tables,
            drops_finished=True,
        )
        return loop.play(part).trimmed()

    with one_thread():
        record = GameRecord.joined([play(part) for part in numbers.split(_GAMES_AT_ONCE)])
    return record if trim else record.fitted(limit)


def _game_numbers(numbers: range | Tensor, bytes_per_game: int, device: torch.device) -> Tensor:
    """The games' numbers (G,) int64 on the device, if it has the memory for so many games."""
    if isinstance(numbers, range):
        # Not len(): it cannot say how long a very long range is.
        count = max(0, -((numbers.start - numbers.stop) // numbers.step))
    else:
        count = whole_numbers("numbers", numbers, (None,)).shape[0]
    if count == 0:
        raise ValueError("numbers must name at least one game, got none.")
    if problem := memory_problem(count * bytes_per_game, device):
        raise MemoryError(f"out of memory: the record of {count} games needs {problem}.")
    if isinstance(numbers, Tensor):
        return numbers.to(device=device, dtype=torch.int64).contiguous()
    first, last = numbers[0], numbers[-1]
    if max(abs(first), abs(last)) > _MOST_NUMBER:
        raise ValueError(f"numbers must be -2^61 to 2^61, got {first} to {last}.")
    step = numbers.step if count > 1 else 1
    return torch.arange(first, last + step, step, device=device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one core. The operations are so short that a second one gains a tenth at best.

    On a machine that does anything else it costs a factor of several: the threads of one operation
    wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
