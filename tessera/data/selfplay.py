"""Games of a model against itself, thousands at once, ply by ply on the model's device.

Shapes: G games, B slots (games at once), T = max_moves plies, n rows, P = n² points, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.accelerator import memory_problem
from tessera.go import GameRecord, GPUGoEngine, Rules
from tessera.go.contract import described, is_number, whole_number, whole_numbers
from tessera.go.randomness import MOVE, draw, random_words
from tessera.go.record import BYTES_PER_PLY
from tessera.go.rules import resolve_rules
from tessera.model import GameModel
from tessera.transfers import to_host
from tessera.vocabulary import Vocabulary, board_size_of, num_tokens

PLAYER = "selfplay"

_LEAST_TEMPERATURE = 1e-30  # of two logits only the larger one counts, and float32 holds both
_PLIES_BETWEEN_LOOKS = 32  # whether all games are over; each look waits for the device


class SelfPlay:
    """A table with B slots at which a model plays both colours; each slot takes game after game.

    A move is drawn from the model's distribution over the legal moves. The draw of each ply is a
    function of (seed, game number, ply), so the games follow from the weights, the numbers and the
    number of slots. On CUDA devices a ply is one CUDA graph, replayed.

    Args:
        model: plays; its weights may change between calls of ``play``, in place.
        num_games: G, games of one call of ``play``.
        num_slots: B, games at once; None or more than G for all of them.
        rules: of every game.
        seed: any whole number.
        temperature: the logits are divided by it; below 1 likely moves become likelier.
        backend: of the engine, as for GPUGoEngine.
        dtype: of the model's matrix products, float32 or bfloat16; the state is float32 always.
        with_legal: whether to record the legal points before each ply.

    Attributes:
        plies_played: () int64, of all games since the table was made.

    Raises:
        ValueError: if ``num_games``, ``num_slots`` or ``temperature`` is out of range, ``dtype`` is
            another, or the model's vocabulary is that of no board.
        MemoryError: if the device has less memory than so many games and their record take.
    """

    def __init__(
        self,
        model: GameModel,
        num_games: int,
        num_slots: int | None = None,
        *,
        rules: Rules | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        backend: str = "auto",
        dtype: torch.dtype = torch.float32,
        with_legal: bool = False,
    ) -> None:
        num_games = whole_number("num_games", num_games)
        slots = num_games if num_slots is None else whole_number("num_slots", num_slots)
        slots = min(slots, num_games)
        if slots < 1:
            raise ValueError(f"num_games and num_slots must be at least 1, got {slots}.")
        if not is_number(temperature) or not temperature > 0:
            raise ValueError(f"temperature must be more than 0, got {described(temperature)}.")
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype must be torch.float32 or torch.bfloat16, got {dtype}.")
        size = board_size_of(model.vocab_size)
        if model.vocab_size != num_tokens(size):
            raise ValueError(f"vocab_size must be n² + 3 for an n×n board, got {model.vocab_size}.")
        self.model, self.seed, self.dtype = model, whole_number("seed", seed), dtype
        self.temperature = max(temperature, _LEAST_TEMPERATURE)
        self.rules = resolve_rules(rules or "full")
        self.vocabulary = Vocabulary(size)
        device = model.device
        bytes_per_ply = BYTES_PER_PLY + 4 * size * with_legal
        num_bytes = num_games * self.rules.move_limit(size) * bytes_per_ply
        if problem := memory_problem(num_bytes, device):
            raise MemoryError(f"out of memory: num_games (={num_games}) games need {problem}.")
        self.engine = GPUGoEngine(slots, device, size, self.rules, backend)
        # The longest game's moves, and the token before them.
        self.state = model.init_state(slots, device, self.engine.max_moves + 1)
        self._numbers = torch.zeros(num_games + 1, dtype=torch.int64, device=device)
        self._new_tables(num_games, with_legal)
        self._tokens = self.engine.turn.new_zeros(slots)
        self._is_new = torch.ones(slots, dtype=torch.bool, device=device)
        # The row of the record that a slot's game writes; row G takes what belongs to no game.
        self._rows = self._tokens.clone()
        self._next_row = self._tokens.new_zeros(())
        self.plies_played = self._tokens.new_zeros(())
        self._graph: torch.cuda.CUDAGraph | None = None

    def _new_tables(self, num_games: int, with_legal: bool) -> None:
        rows, plies = num_games + 1, self.engine.max_moves

        def table(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(rows, *shape, dtype=dtype, device=self._numbers.device)

        self._moves = table(torch.int16, plies)
        self._captures = table(torch.int16, plies)
        self._log_probs, self._entropies = table(torch.float32, plies), table(torch.float32, plies)
        size = self.engine.board_size
        self._legal = table(torch.int32, plies, size) if with_legal else None
        self._lengths, self._results = table(torch.int32), table(torch.float32)

    @property
    def num_slots(self) -> int:
        """Games at once, B."""
        return self.engine.batch_size

    @property
    def num_games(self) -> int:
        """Games of one call of ``play``, G."""
        return len(self._numbers) - 1

    def play(self, numbers: Tensor) -> GameRecord:
        """Play these games (G,) to their ends; the record is a copy.

        Raises:
            ValueError: if ``numbers`` are not G whole numbers.
        """
        self._numbers[:-1] = whole_numbers("numbers", numbers, (self.num_games,))
        self.begin()
        plies = 0
        while True:
            self.play_ply()
            plies += 1
            if plies % _PLIES_BETWEEN_LOOKS == 0 and self.is_done():
                return self._record()

    def begin(self) -> None:
        """Put the first games on the table."""
        self._moves.fill_(self.vocabulary.pad_token)
        for table in (self._captures, self._log_probs, self._entropies, self._legal):
            if table is not None:
                table.zero_()
        self.engine.reset()
        self._tokens.fill_(self.vocabulary.eos_token)
        self._is_new.fill_(True)
        torch.arange(self.num_slots, out=self._rows)
        self._next_row.fill_(self.num_slots)

    def is_done(self) -> bool:
        """Whether all games are over; waits for the device."""
        return bool(to_host((self._rows == self.num_games).all(), "selfplay"))

    def play_ply(self) -> None:
        """One ply in every game that goes on; games that end are replaced by the next ones."""
        if self._graph is not None:
            self._graph.replay()
            return
        with torch.no_grad():
            self._ply()
            if self._tokens.is_cuda:
                # The ply that was just played has compiled all that the graph will hold.
                torch.cuda.synchronize(self._tokens.device)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._ply()
                self._graph = graph

    def _ply(self) -> None:
        engine, rows = self.engine, self._rows
        legal = engine.get_legal_mask()
        with torch.autocast(self._tokens.device.type, torch.bfloat16, self.dtype == torch.bfloat16):
            logits = self.model.step_in_place(self._tokens, self.state, self._is_new)
        log_probs, moves = self._draw(logits, legal, engine.move_number)
        # 0 · log 0 is 0.
        entropies = -(log_probs.exp() * log_probs.masked_fill(~legal, 0)).sum(1)

        at = (rows, engine.move_number.clamp(max=engine.max_moves - 1))
        if self._legal is not None:
            self._legal[at] = engine.legal_rows().t()
        engine.play_batch(moves)
        self.plies_played += (rows < self.num_games).sum()
        self._moves[at] = moves.short()
        self._log_probs[at] = log_probs.gather(1, moves.unsqueeze(1)).squeeze(1)
        self._entropies[at] = entropies
        self._captures[at] = engine.last_captures.short()
        self._lengths[rows] = engine.move_number.int()
        self._results[rows] = engine.score()
        self._take_next(moves)

    def _draw(self, logits: Tensor, legal: Tensor, plies: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, P + 1), -inf where illegal, and a move (B,) int64 for each slot."""
        scores = logits[:, : self.vocabulary.num_points + 1].float() / self.temperature
        log_probs = scores.masked_fill(~legal, -torch.inf).log_softmax(1)
        words = random_words(self.seed, self._numbers[self._rows], plies, MOVE)
        return log_probs, draw(log_probs.exp(), legal, words)

    def _take_next(self, moves: Tensor) -> None:
        """Give the slots whose games are over the next games, as long as there are any."""
        over = self.engine.is_game_over()
        next_rows = self._next_row + over.cumsum(0) - 1
        rows = torch.where(over, next_rows, self._rows)
        self._rows.copy_(rows.clamp(max=self.num_games))
        self._next_row += over.sum()
        self.engine.reset(over)
        self._tokens.copy_(moves.masked_fill(over, self.vocabulary.eos_token))
        self._is_new.copy_(over)

    def _record(self) -> GameRecord:
        def rows(table: Tensor) -> Tensor:
            return table[:-1].clone()

        return GameRecord(
            board_size=self.engine.board_size,
            rules=self.rules,
            player=PLAYER,
            seed=self.seed,
            numbers=rows(self._numbers),
            moves=rows(self._moves),
            lengths=rows(self._lengths),
            results=rows(self._results),
            log_probs=rows(self._log_probs),
            entropies=rows(self._entropies),
            captures=rows(self._captures),
            legal=None if self._legal is None else rows(self._legal),
        )
