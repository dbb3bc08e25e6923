"""The one loop of games whose moves come from outside: a player chooses, the engine plays.

Shapes: G games, B slots (games at once), T = max_moves plies.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tessera.accelerator import capture_stream, current, memory_problem
from tessera.go.backend import check_device
from tessera.go.contract import whole_numbers
from tessera.go.engine import GPUGoEngine
from tessera.go.players import Player
from tessera.go.randomness import MOVE, random_words
from tessera.go.record import GameRecord, Table, bytes_per_ply, kept_tables
from tessera.go.rules import Rules, resolve_rules
from tessera.setting_errors import whole_number
from tessera.transfers import to_host
from tessera.vocabulary import check_board_size

_PLIES_BETWEEN_LOOKS = 32  # whether all games are over; each look waits for the device
_KEEP_ABOVE = 0.8  # finished games are dropped once fewer than this share still go on


class GameLoop:
    """B slots at which a player plays both colours; each slot takes game after game.

    The draw of each ply is a function of (seed, game number, ply), so the games follow from the
    player, the numbers and, as far as the player's arithmetic knows how many games it plays at
    once, the number of slots. Where the engine plays in kernels a ply is one CUDA graph, replayed.

    Args:
        player: of both colours; plays in one loop at a time.
        num_games: G, games of one call of ``play``.
        num_slots: B, games at once; None or more than G for all of them.
        board_size: n, 2 to 19.
        device: where to play and where the record lives.
        rules: of every game.
        seed: any whole number.
        backend: of the engine, as for GPUGoEngine.
        skip_settled: of the engine, too: whether players leave settled points alone.
        tables: what is written down; a record wants all that ``kept_tables`` gives.
        drops_finished: no game follows another: finished games leave the engine once they are
            many, and the loop plays only once. Looks at the games after every ply, so it suits
            plain torch, and a player that remembers nothing.

    Attributes:
        tables: the tensors by name, a row for each game and one more.
        plies_played: () int64, of all games since the loop was made.

    Raises:
        ValueError: if ``num_games``, ``num_slots`` or an argument of the engine is out of range.
        MemoryError: if the device has less memory than so many games and their tables take.
    """

    def __init__(
        self,
        player: Player,
        num_games: int,
        num_slots: int | None = None,
        *,
        board_size: int,
        device: str | torch.device = "cpu",
        rules: str | Rules = "full",
        seed: int = 0,
        backend: str = "auto",
        skip_settled: bool = False,
        tables: Mapping[str, Table] | None = None,
        drops_finished: bool = False,
    ) -> None:
        num_games = whole_number("num_games", num_games)
        slots = num_games if num_slots is None else whole_number("num_slots", num_slots)
        slots = min(slots, num_games)
        if slots < 1:
            raise ValueError(f"num_games and num_slots must be at least 1, got {slots}.")
        self.player, self.seed = player, whole_number("seed", seed)
        self.drops_finished = drops_finished
        size, rules = check_board_size("board_size", board_size), resolve_rules(rules)
        device = check_device(device)
        self._described = kept_tables() if tables is None else dict(tables)
        num_bytes = num_games * rules.move_limit(size) * bytes_per_ply(self._described, size)
        if problem := memory_problem(num_bytes, device):
            raise MemoryError(f"out of memory: num_games (={num_games}) games need {problem}.")
        self.engine = GPUGoEngine(slots, device, size, rules, backend, skip_settled)
        self.tables = {
            name: table.new(num_games + 1, self.engine.max_moves, size, device)
            for name, table in self._described.items()
        }
        self._numbers = torch.zeros(num_games + 1, dtype=torch.int64, device=device)
        # The row that a slot's game writes; row G takes what belongs to no game.
        self._rows = torch.arange(slots, device=device)
        self._games = self._rows  # of a slot, whether or not its game is over
        self._plies = torch.zeros_like(self._rows)  # of a slot's game so far
        self._next_row = self._rows.new_zeros(())
        self.plies_played = self._rows.new_zeros(())
        self._graph: torch.cuda.CUDAGraph | None = None
        self._memory: int | None = None  # of the player, which the graph holds

    @property
    def num_slots(self) -> int:
        """Games at once, B."""
        return self.engine.batch_size

    @property
    def num_games(self) -> int:
        """Games of one call of ``play``, G."""
        return len(self._numbers) - 1

    def play(self, numbers: Tensor) -> GameRecord:
        """Play these games (G,) to their ends; T is the move limit.

        The record is a copy of ``tables``, but for a loop that plays only once.

        Raises:
            ValueError: if ``numbers`` are not G whole numbers.
        """
        self.begin(numbers)
        for ply in itertools.count(1):
            self.play_ply()
            if self.drops_finished:
                # All games began together: none outlives the move limit.
                is_last = ply == self.engine.max_moves
                self._drop_finished(is_last)
                is_done = is_last or self.num_slots == 0
            else:
                is_done = ply % _PLIES_BETWEEN_LOOKS == 0 and self.is_done()
            if is_done:
                break
        tables: dict[str, Any] = {
            name: tensor[:-1] if self.drops_finished else tensor[:-1].clone()
            for name, tensor in self.tables.items()
        }
        engine, numbers = self.engine, self._numbers[:-1].clone()
        return GameRecord(
            engine.board_size,
            engine.rules,
            self.player.name,
            self.seed,
            numbers,
            **tables,
            skip_settled=engine.skip_settled,
        )

    def begin(self, numbers: Tensor) -> None:
        """Put the first of these games (G,) into the slots.

        Raises:
            ValueError: as ``play``.
        """
        self._numbers[:-1] = whole_numbers("numbers", numbers, (self.num_games,))
        for name, table in self._described.items():
            self.tables[name].fill_(table.fill(self.engine.board_size))
        self.engine.reset()
        memory = self.player.begin(self.engine)
        if memory != self._memory:  # in a loop of another size it was given other tensors
            self._memory, self._graph = memory, None
        torch.arange(self.num_slots, out=self._rows)
        self._plies.zero_()
        self._next_row.fill_(self.num_slots)

    def is_done(self) -> bool:
        """Whether all games are over; waits for the device."""
        return bool(to_host((self._rows == self.num_games).all(), "selfplay"))

    def play_ply(self) -> None:
        """One ply in every game that goes on; games that end make room for the next ones."""
        if self._graph is not None:
            self._graph.replay()
            return
        with torch.no_grad():
            self._ply()
            if self.engine.backend == "triton" and self._rows.is_cuda and not self.drops_finished:
                # The ply that was just played has compiled all that the graph will hold.
                torch.cuda.synchronize(self._rows.device)
                graph = torch.cuda.CUDAGraph()
                with current(self._rows.device):
                    stream = capture_stream(torch.cuda.current_device())
                    with torch.cuda.graph(graph, stream=stream):
                        self._ply()
                self._graph = graph

    def _ply(self) -> None:
        engine, rows = self.engine, self._rows
        choice = self.player.choose(
            engine, random_words(self.seed, self._numbers[rows], self._plies, MOVE)
        )
        # Counted here and not by the engine, whose count is what a record is checked by.
        plies = self._plies.clamp(max=engine.max_moves - 1)
        self._write("before", engine, rows, plies)
        engine.play_batch(choice.moves)
        self.plies_played += (rows < self.num_games).sum()
        self._write("choice", choice, rows, plies)
        self._write("after", engine, rows, plies)
        self._plies += 1
        over = engine.is_game_over()
        self.player.observe(engine, choice.moves, over)
        if self.drops_finished:
            self._rows = rows.masked_fill(over, self.num_games)
        else:
            self._write("end", engine, rows)
            self._take_next(over)

    def _write(self, when: str, source: object, rows: Tensor, plies: Tensor | None = None) -> None:
        """Write down what is read at this moment, of a ply or of a game."""
        for name, table in self._described.items():
            if table.when == when and table.read is not None:
                # Of positions, what is read after a ply is the next entry.
                at = rows if plies is None else (rows, plies + 1 if table.has_last else plies)
                self.tables[name][at] = table.read(source).to(table.dtype)

    def _take_next(self, over: Tensor) -> None:
        """Give the slots whose games are over the next games, as long as there are any."""
        next_rows = self._next_row + over.cumsum(0) - 1
        rows = torch.where(over, next_rows, self._rows)
        self._rows.copy_(rows.clamp(max=self.num_games))
        self._next_row += over.sum()
        self._plies.masked_fill_(over, 0)
        self.engine.reset(over)

    def _drop_finished(self, is_last: bool) -> None:
        """Take the finished games out of the engine once they are many, or it is the last ply."""
        going = (self._rows < self.num_games).nonzero().squeeze(1)
        if going.numel() > _KEEP_ABOVE * self.num_slots and not is_last:
            return
        self._write("end", self.engine, self._games)
        self.engine.keep(going)
        self._rows, self._games = self._rows[going], self._games[going]
        self._plies = self._plies[going]
