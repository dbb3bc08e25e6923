"""A model as a player: its state is carried, its moves are drawn from its own distribution.

Shapes: B games, P = n² points, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go import Choice, GPUGoEngine
from tessera.go.bitboard import as_moves
from tessera.go.randomness import draw
from tessera.model import GameModel, ModelState
from tessera.play.reading import reader_of
from tessera.setting_errors import number
from tessera.vocabulary import Vocabulary, board_size_of, num_tokens

_LEAST_TEMPERATURE = 1e-30  # of two logits only the larger one counts, and float32 holds both


class ModelPlayer:
    """Plays a model's distribution over the moves it may choose; reads each game move by move.

    These are the legal ones, of an engine with ``skip_settled`` without settled points.

    Nothing it does waits for the device, and a ply of it may be captured in a CUDA graph.

    Args:
        model: plays; its weights may change between games, in place.
        temperature: the logits are divided by it; below 1 likely moves become likelier.
        dtype: of the model's matrix products, float32 or bfloat16; the state is float32 always.
        passes_last: a pass counts as legal only where no point is, so that games are long.

    Attributes:
        name: what a record calls it.
        board_size: n, from the model's vocabulary.
        device: where the model is, and where it plays.
        state: what it remembers of the games; from ``begin`` on.

    Raises:
        ValueError: if ``temperature`` is out of range, ``dtype`` is another, or the model's
            vocabulary is that of no board, or its features read a table that there is not.
    """

    name = "selfplay"
    state: ModelState

    def __init__(
        self,
        model: GameModel,
        temperature: float = 1.0,
        dtype: torch.dtype = torch.float32,
        passes_last: bool = False,
    ) -> None:
        number("more than 0", lambda x: x > 0)("temperature", temperature)
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype must be torch.float32 or torch.bfloat16, got {dtype}.")
        self.board_size = board_size_of(model.vocab_size)
        if model.vocab_size != num_tokens(self.board_size):
            raise ValueError(f"vocab_size must be n² + 3 for an n×n board, got {model.vocab_size}.")
        self.model, self.dtype, self.passes_last = model, dtype, passes_last
        self._tables_of = reader_of(model)
        self.temperature = max(temperature, _LEAST_TEMPERATURE)
        self._eos_token = Vocabulary(self.board_size).eos_token
        # What is read next, and where it begins a game.
        self._tokens = torch.empty(0, dtype=torch.int64)
        self._is_new = torch.empty(0, dtype=torch.bool)
        self._room = (0, 0)  # games at once, and tokens of the longest, that the state is made for
        self._memory = 0  # how often that was

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def begin(self, engine: GPUGoEngine) -> int:
        """Forget all games; see ``Player``."""
        # The longest game's moves, and the token before them.
        room = (engine.batch_size, engine.max_moves + 1)
        if room != self._room:
            self._room = room
            self._memory += 1
            self.state = self.model.init_state(room[0], max_moves=room[1])
            self._tokens = torch.empty_like(engine.turn)
            self._is_new = torch.empty_like(engine.turn, dtype=torch.bool)
        # In place, because a graph holds the addresses.
        self._tokens.fill_(self._eos_token)
        self._is_new.fill_(True)
        return self._memory

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        """Read the last move and draw the next one; see ``Player``."""
        return self.draw(self.read(engine), engine, words)

    def read(self, engine: GPUGoEngine) -> Tensor:
        """Logits (B, V) after the last moves, by which the state is moved on."""
        tables = self._tables_of(engine)
        with torch.autocast(self.device.type, torch.bfloat16, self.dtype == torch.bfloat16):
            return self.model.step_in_place(self._tokens, self.state, self._is_new, tables)

    def draw(self, logits: Tensor, engine: GPUGoEngine, words: Tensor) -> Choice:
        """The moves that these logits (B, V) and random bits (B,) int64 give."""
        legal = as_moves(engine.playable_rows()) if engine.skip_settled else engine.get_legal_mask()
        if self.passes_last:
            legal[:, -1] = ~legal[:, :-1].any(1)
        return draw_choice(logits[:, : legal.shape[1]].float() / self.temperature, legal, words)

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        """Take the moves as what is read next; see ``Player``."""
        self._tokens.copy_(moves.masked_fill(over, self._eos_token))
        self._is_new.copy_(over)


def draw_choice(scores: Tensor, legal: Tensor, words: Tensor) -> Choice:
    """A legal move in each game, drawn from the softmax of the scores of the legal ones.

    Args:
        scores: (B, P + 1) float32; where they are no numbers a move is drawn that is legal.
        legal: (B, P + 1) bool, True where a move may be drawn; at least one in each game.
        words: (B,) int64, 64 random bits for each game.
    """
    log_probs = scores.masked_fill(~legal, -torch.inf).log_softmax(1)
    moves = draw(log_probs.exp(), legal, words)
    # 0 · log 0 is 0.
    entropies = -(log_probs.exp() * log_probs.masked_fill(~legal, 0)).sum(1)
    return Choice(moves, log_probs.gather(1, moves.unsqueeze(1)).squeeze(1), entropies)
