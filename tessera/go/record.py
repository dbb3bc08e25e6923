"""Finished games as tensors, and playing them.

Shapes: G games, T plies of the longest of them, n rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.accelerator import memory_problem
from tessera.go.backend import check_device, resolve_backend
from tessera.go.contract import whole_number, whole_numbers
from tessera.go.engine import GPUGoEngine
from tessera.go.players import choose, get_player
from tessera.go.randomness import MOVE, random_words
from tessera.go.rules import Rules, resolve_rules
from tessera.vocabulary import Vocabulary, check_board_size

_GAMES_AT_ONCE = 4096  # enough to make torch's cost per call small; more falls out of the cache
_MOST_NUMBER = 2**61  # so that no step from one to another overflows 64 bits
BYTES_PER_PLY = 12  # of a record without legal points
_KEEP_ABOVE = 0.8  # finished games are dropped once fewer than this share still go on


@dataclass(frozen=True, slots=True)
class GameRecord:
    """A batch of finished games and the exact probabilities of what was played in them.

    Attributes:
        board_size: n.
        rules: the rules they were played by.
        player: the name of the player of both colours.
        seed: the seed; with the numbers it determines the games.
        numbers: (G,) int64 game numbers.
        moves: (G, T) int16 tokens, PAD beyond a game's end.
        lengths: (G,) int32, plies.
        results: (G,) float32, black's area minus white's minus komi.
        log_probs: (G, T) float32, the log-probability of each move in nats; 0 beyond the end.
        entropies: (G, T) float32, the entropy of the choice in nats; 0 beyond the end.
        captures: (G, T) int16, stones that each ply took off the board; 0 beyond the end.
        legal: (G, T, n) int32 row bitboards of the legal points before each ply, 0 beyond the end;
            None if they were not asked for.
    """

    board_size: int
    rules: Rules
    player: str
    seed: int
    numbers: Tensor
    moves: Tensor
    lengths: Tensor
    results: Tensor
    log_probs: Tensor
    entropies: Tensor
    captures: Tensor
    legal: Tensor | None


def play_games(
    player: str,
    numbers: range | Tensor,
    *,
    seed: int,
    board_size: int,
    rules: str | Rules = "full",
    device: str | torch.device = "cpu",
    backend: str = "auto",
    with_legal: bool = False,
    trim: bool = True,
) -> GameRecord:
    """Play one game for each number, from start to end.

    Game k is a pure function of (seed, k, player, rules, board_size): it is the same in every
    batch and on every device.

    Args:
        player: a built-in player's name, who plays both colours.
        numbers: the games' numbers, a range or (G,) int64; at least one.
        seed: any whole number.
        board_size: n, 2 to 19.
        rules: a preset's name or a Rules record.
        device: where to play and where the record lives.
        backend: as for GPUGoEngine.
        with_legal: whether to record the legal points before each ply.
        trim: whether T is the length of the longest game; otherwise T is the move limit, and on a
            CUDA device nothing waits for the games to be played.

    Raises:
        ValueError: for an unknown player, an argument that GPUGoEngine refuses, or no numbers.
        MemoryError: if the device has less memory than the record of so many games takes.
    """
    get_player(player)
    board_size = check_board_size(board_size)
    rules = resolve_rules(rules)
    seed = whole_number("seed", seed)
    device = check_device(device)
    in_kernels = resolve_backend(backend, device) == "triton"
    # Plain torch cuts a record to its games' lengths, of which only the least is known before.
    plies = rules.move_limit(board_size) if in_kernels else 1
    bytes_per_game = plies * (BYTES_PER_PLY + 4 * board_size * with_legal)
    numbers = _game_numbers(numbers, bytes_per_game, device)
    if in_kernels:
        return _play_in_kernels(player, numbers, seed, board_size, rules, with_legal, trim)
    with _one_thread():
        parts = [
            _Table(player, part, seed, board_size, rules, device, with_legal).play()
            for part in numbers.split(_GAMES_AT_ONCE)
        ]
    plies = max(part.moves.shape[1] for part in parts) if trim else rules.move_limit(board_size)
    if len(parts) == 1 and parts[0].moves.shape[1] == plies:
        return parts[0]
    return _joined(parts, plies)


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
def _one_thread() -> Iterator[None]:
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


def _play_in_kernels(
    player: str,
    numbers: Tensor,
    seed: int,
    board_size: int,
    rules: Rules,
    with_legal: bool,
    trim: bool,
) -> GameRecord:
    """The same games from the Triton kernels."""
    from tessera.go.kernels.games import play_tables

    tables = play_tables(
        player, numbers, seed=seed, board_size=board_size, rules=rules, with_legal=with_legal
    )
    plies = int(tables.lengths.max()) if trim else tables.moves.shape[1]

    def trimmed(table: Tensor) -> Tensor:
        return table[:, :plies].contiguous()

    return GameRecord(
        board_size=board_size,
        rules=rules,
        player=player,
        seed=seed,
        numbers=numbers,
        moves=trimmed(tables.moves),
        lengths=tables.lengths,
        results=tables.results,
        log_probs=trimmed(tables.log_probs),
        entropies=trimmed(tables.entropies),
        captures=trimmed(tables.captures),
        legal=None if tables.legal is None else trimmed(tables.legal),
    )


class _Table:
    """The games that are played at once, and the record that grows ply by ply."""

    def __init__(
        self,
        player: str,
        numbers: Tensor,
        seed: int,
        board_size: int,
        rules: Rules,
        device: torch.device,
        with_legal: bool,
    ) -> None:
        self.name, self.player, self.seed = player, get_player(player), seed
        self.numbers = numbers
        self.engine = GPUGoEngine(numbers.numel(), device, board_size, rules, "torch")
        plies, games = self.engine.max_moves, numbers.numel()

        # One row for a ply while the games go on: a row is written at once.
        def table(dtype: torch.dtype, fill: int = 0) -> Tensor:
            return torch.full((plies, games), fill, dtype=dtype, device=numbers.device)

        self.moves = table(torch.int16, self.engine.vocabulary.pad_token)
        self.log_probs, self.entropies = table(torch.float32), table(torch.float32)
        self.captures = table(torch.int16)
        self.legal = (
            torch.zeros(plies, board_size, games, dtype=torch.int32, device=numbers.device)
            if with_legal
            else None
        )
        self.lengths = table(torch.int32)[0].clone()
        self.results = table(torch.float32)[0].clone()

    def play(self) -> GameRecord:
        """Play all games to the end."""
        slots = torch.arange(self.numbers.numel(), device=self.numbers.device)
        for ply in range(self.engine.max_moves):
            slots = self._drop_finished(slots)
            if slots.numel() == 0:
                break
            self._play_ply(ply, slots)
        self._finish(slots)
        return self._record()

    def _play_ply(self, ply: int, slots: Tensor) -> None:
        engine = self.engine
        if self.legal is not None:
            over = engine.is_game_over()
            self.legal[ply].index_copy_(1, slots, engine.legal_rows() * ~over)
        choice = choose(
            self.player, engine, random_words(self.seed, self.numbers[slots], ply, MOVE)
        )
        going = ~engine.is_game_over()
        engine.play_batch(choice.moves)
        pad = engine.vocabulary.pad_token
        self.moves[ply, slots] = torch.where(going, choice.moves, pad).to(torch.int16)
        self.log_probs[ply, slots] = choice.log_probs * going
        self.entropies[ply, slots] = choice.entropies * going
        self.captures[ply, slots] = (engine.last_captures * going).to(torch.int16)

    def _drop_finished(self, slots: Tensor) -> Tensor:
        """Take the finished games out of the engine once they are many."""
        over = self.engine.is_game_over()
        going = (~over).nonzero().squeeze(1)
        if going.numel() > _KEEP_ABOVE * slots.numel():
            return slots
        self._finish(slots)
        self.engine.keep(going)
        return slots[going]

    def _finish(self, slots: Tensor) -> None:
        if slots.numel():
            self.lengths[slots] = self.engine.move_number.to(torch.int32)
            self.results[slots] = self.engine.score()

    def _record(self) -> GameRecord:
        plies = int(self.lengths.max())
        legal = None if self.legal is None else self.legal[:plies].permute(2, 0, 1).contiguous()
        by_game = [
            table[:plies].t().contiguous()
            for table in (self.moves, self.log_probs, self.entropies, self.captures)
        ]
        return GameRecord(
            board_size=self.engine.board_size,
            rules=self.engine.rules,
            player=self.name,
            seed=self.seed,
            numbers=self.numbers,
            moves=by_game[0],
            lengths=self.lengths,
            results=self.results,
            log_probs=by_game[1],
            entropies=by_game[2],
            captures=by_game[3],
            legal=legal,
        )


def _joined(parts: list[GameRecord], plies: int) -> GameRecord:
    """One record of all parts, padded to this many plies."""
    first = parts[0]
    pad = Vocabulary(first.board_size).pad_token

    def join(name: str, fill: int = 0) -> Tensor:
        tensors = []
        for part in parts:
            tensor = getattr(part, name)
            missing = plies - tensor.shape[1]
            shape = (tensor.shape[0], missing, *tensor.shape[2:])
            tensors.append(torch.cat([tensor, tensor.new_full(shape, fill)], 1))
        return torch.cat(tensors)

    return GameRecord(
        board_size=first.board_size,
        rules=first.rules,
        player=first.player,
        seed=first.seed,
        numbers=torch.cat([part.numbers for part in parts]),
        moves=join("moves", pad),
        lengths=torch.cat([part.lengths for part in parts]),
        results=torch.cat([part.results for part in parts]),
        log_probs=join("log_probs"),
        entropies=join("entropies"),
        captures=join("captures"),
        legal=None if first.legal is None else join("legal"),
    )
