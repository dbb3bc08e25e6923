"""One game that a person follows with a model: moves, undo, and what the model expects next.

Shapes: P = n² points; a vector over moves has P + 1 entries, the last is pass.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, IllegalMoveError, Rules
from tessera.go.bitboard import unpack
from tessera.model import GameModel, ModelState
from tessera.model.outcome import Outcome
from tessera.play.reading import reader_of
from tessera.play.referee import why_illegal
from tessera.play.replays import Replays
from tessera.transfers import to_host
from tessera.vocabulary import MAX_BOARD_SIZE, MIN_BOARD_SIZE, Vocabulary

# People go on after a model's longest game; so many plies more than n² there is room for.
_LEAST_ROOM, _ROOM_PER_POINT = 400, 4
# A state that attention keeps grows with the game: of older positions every 16th is enough.
_STATES_KEPT, _EVERY = 64, 16


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a model expects of a position; tensors are on the CPU.

    Attributes:
        probabilities: (P + 1,) float32 over points and pass, of the legal moves alone: they sum
            to 1, and what is illegal has 0; so have settled points with ``skip_settled``.
        legal: (P + 1,) bool, True where a move is legal.
        legal_mass: what the model gave to the legal moves, of 1, before the others were left out.
        win: the probability that the player to move wins; None if the model has no outcome.
        score: by how many points the player to move wins; None if the model has no outcome.
        ownership: (n, n) float32, whose each point will be: 1 black's, -1 white's; None if the
            model does not say it.
    """

    probabilities: Tensor
    legal: Tensor
    legal_mass: float
    win: float | None
    score: float | None
    ownership: Tensor | None = None


@dataclass(slots=True)
class _Position:
    """A position of the game, and what is known of it so far.

    Attributes:
        token: that led to it, EOS at the beginning.
        engine: the game as it stood then; never played on.
        rows: (1, S, n), what the model's features read off it.
        state: the model's, after the token.
        outlook: what the model expects of it.
    """

    token: int
    engine: GPUGoEngine
    rows: Tensor | None = None
    state: ModelState | None = None
    outlook: Outlook | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A game as it stood once, see ``Session.mark``."""

    positions: tuple[_Position, ...]
    has_history: bool
    handicap: tuple[int, ...]


class Session:
    """A game move by move, by the rules that a model was trained on, as far back as it goes.

    The model reads a move once, when an outlook needs it. After two passes a game can go on.

    Args:
        model: what is asked; on ``device``, in evaluation.
        board_size: n, the model's.
        rules: the model's; its ``max_moves`` does not end the game.
        context: tokens that the model was trained to read at once; None for whole games, whose
            state is carried from move to move.
        device: where the model is and the game is played.
        skip_settled: whether the model was trained on games that leave settled points alone: what
            it says of these was learned by nobody and is left out.

    Raises:
        ValueError: if the model's features read a table that there is not.
    """

    def __init__(
        self,
        model: GameModel,
        board_size: int,
        rules: Rules,
        context: int | None,
        device: torch.device | str,
        skip_settled: bool = False,
    ) -> None:
        limit = max(rules.move_limit(board_size), _LEAST_ROOM, _ROOM_PER_POINT * board_size**2)
        self.model, self.context, self.device = model, context, torch.device(device)
        self.rules, self.vocabulary = rules, Vocabulary(board_size)
        self._reader, self._replays = reader_of(model), Replays.of(model)
        rules = replace(rules, max_moves=limit)
        self._new = GPUGoEngine(1, device, board_size, rules, skip_settled=skip_settled)
        self._handicap: tuple[int, ...] = ()
        self.clear()

    @property
    def board_size(self) -> int:
        """The board's size, n."""
        return self.vocabulary.board_size

    @property
    def engine(self) -> GPUGoEngine:
        """The game as it stands, a batch of one; to be read, not to be played on."""
        return self._positions[-1].engine

    def can_be(self, board_size: int) -> bool:
        """Whether the model can play on boards of that size, in another session."""
        sizes = range(MIN_BOARD_SIZE, MAX_BOARD_SIZE + 1)
        return board_size in sizes and self.model.settings.is_of_any_board()

    @property
    def start(self) -> GPUGoEngine:
        """The game as it began: the empty board, or the position that was set; to be read."""
        return self._positions[0].engine

    @property
    def moves(self) -> list[int]:
        """The tokens played since the beginning, or since the position that was set."""
        return [position.token for position in self._positions[1:]]

    @property
    def handicap(self) -> int:
        """How many stones of ``set_handicap`` the game begins with; 0 where one is taken back."""
        before = self._handicap
        is_there = before and tuple(self.moves[: len(before)]) == before
        return (len(before) + 1) // 2 if is_there else 0

    @property
    def turn(self) -> int:
        """Who is to move: 0 black, 1 white."""
        return int(self.engine.turn)

    @property
    def sees_board(self) -> bool:
        """Whether the model is told where stones stand, so that it can say something of set-ups."""
        features = self.model.features
        return features is not None and features.table in ("board", "position")

    @property
    def says_ownership(self) -> bool:
        """Whether the model says whose the points will be."""
        outcome = self.model.outcome
        return outcome is not None and outcome.ownership_weight > 0

    @property
    def is_over(self) -> bool:
        """Whether the last two moves were passes."""
        return bool(self.engine.passes >= 2)

    @property
    def stones(self) -> Tensor:
        """(n, n) int64 on the CPU: +1 black, -1 white, 0 empty."""
        black, white, _ = to_host(self.engine.boards[0], "session").long()
        return black - white

    def clear(self) -> None:
        """Begin a new game on the empty board."""
        self.has_history, self._handicap = True, ()
        self._positions = [_Position(self.vocabulary.eos_token, copy.deepcopy(self._new))]

    def set_position(self, boards: Tensor, turn: int) -> None:
        """Begin a new game from a given position, of whose moves the model knows nothing.

        Only the board part of a model sees the stones; ``has_history`` is False from then on.

        Args:
            boards: (2 or 3, n, n) bool or whole numbers, planes black and white.
            turn: who is to move: 0 black, 1 white.

        Raises:
            ValueError: see ``GPUGoEngine.set_position``; if a chain has no liberty. The game is
                unchanged then.
        """
        engine = copy.deepcopy(self._new)
        engine.set_position(boards[None], torch.tensor([turn]))
        for _ in range(2):  # the stones of either colour
            if int(engine.capture_stones()):
                raise ValueError("boards must not have a chain without liberties.")
            engine.set_position(boards[None], 1 - engine.turn)
        self.has_history, self._handicap = False, ()
        self._positions = [_Position(self.vocabulary.eos_token, engine)]

    def set_handicap(self, moves: Sequence[int]) -> None:
        """Begin a new game with black's handicap, as the model reads it.

        Args:
            moves: tokens, the stones and white's passes between them.

        Raises:
            IllegalMoveError: see ``play``; what came before it has been played then.
        """
        self.clear()
        for token in moves:
            self.play(token)
        self._handicap = tuple(moves)

    def play(self, move: int | str) -> None:
        """Play a point or a pass.

        Args:
            move: its token, or its name, such as ``Q16`` or ``pass``.

        Raises:
            ValueError: if there is no point of that name.
            IllegalMoveError: saying the vertex and the reason; the game is unchanged then.
        """
        token = self.vocabulary.token(move) if isinstance(move, str) else move
        if not 0 <= token <= self.vocabulary.pass_token:
            raise IllegalMoveError(f"token {token} is no point and no pass.")
        before = self.engine
        vertex = self.vocabulary.vertex(token)
        if int(before.move_number) >= before.max_moves:
            raise IllegalMoveError(f"{vertex}: the game is over after {before.max_moves} moves.")
        if not before.get_legal_mask()[0, token]:
            raise IllegalMoveError(f"{vertex} {why_illegal(before, 0, token)}.")
        engine = copy.deepcopy(before)
        engine.go_on()
        engine.play_batch(torch.tensor([token]))
        self._positions.append(_Position(token, engine))

    def undo(self) -> bool:
        """Take the last move back; False at the beginning, where there is none."""
        if len(self._positions) == 1:
            return False
        self._positions.pop()
        return True

    def mark(self) -> Mark:
        """The game as it stands, for ``go_back``."""
        return Mark(tuple(self._positions), self.has_history, self._handicap)

    def go_back(self, mark: Mark) -> None:
        """Let the game be what it was, with all that was known of it, whatever came since."""
        self._positions, self.has_history = list(mark.positions), mark.has_history
        self._handicap = mark.handicap

    @torch.inference_mode()
    def outlook(self) -> Outlook:
        """What the model expects of the position as it stands; asked twice, the same record.

        Raises:
            ValueError: if what the model says is not finite.
        """
        position = self._positions[-1]
        if position.outlook is None:
            said = self._read() if self.context is None else self._read_window()
            position.outlook = self._outlook_of(said)
        return position.outlook

    def _outlook_of(self, said: Tensor) -> Outlook:
        """The record of what ``_said`` joins."""
        if self.engine.skip_settled:
            settled = unpack(self.engine.settled_points().both)[0].flatten()
            settled = torch.nn.functional.pad(settled, (0, len(said) - len(settled)))
            said = said.masked_fill(settled, -torch.inf)
        legal_mask = self.engine.get_legal_mask()[0]
        # One copy for all of it.
        found = to_host(torch.cat([legal_mask.float(), said]), "session")
        legal, logits = found[: len(legal_mask)] > 0, found[len(legal_mask) :]
        logits, rest = logits[: self.vocabulary.size], logits[self.vocabulary.size :]
        logits[self.vocabulary.pad_token] = -torch.inf
        scores = logits[: len(legal)].masked_fill(~legal, -torch.inf)
        chances = scores.softmax(0)
        if not bool(chances.isfinite().all()):
            raise ValueError("the model's probabilities are not finite.")
        mass = float((scores.logsumexp(0) - logits.logsumexp(0)).exp())
        win, score = rest[:2].tolist() or (None, None)
        owned = None
        if len(rest) > 2:  # said of the player to move
            owned = rest[2:].view_as(self.engine.boards[0, 0]) * (1 - 2 * self.turn)
        return Outlook(chances, legal, mass, win, score, owned)

    def _read(self) -> Tensor:
        """What the model says, going on from the newest state that is kept."""
        positions, last = self._positions, len(self._positions) - 1
        start = next((at for at in range(last - 1, -1, -1) if positions[at].state is not None), -1)
        unread = positions[start + 1 :]
        before = positions[start].state if start >= 0 else None
        tokens, tables = self._tokens_of(unread), self._tables_of(unread)
        remembered = [] if before is None else [each for layer in before.layers for each in layer]
        run = partial(self._read_on, len(tables), before)
        said, positions[last].state = self._replays("on", run, (tokens, *tables, *remembered))
        if (old := last - _STATES_KEPT) >= 0 and old % _EVERY:
            positions[old].state = None
        return said

    def _read_on(
        self, num_tables: int, before: ModelState | None, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, ModelState]:
        """Of tokens, tables and the tensors of a state, which is made like ``before``."""
        tables, remembered = tuple(inputs[1 : 1 + num_tables]), iter(inputs[1 + num_tables :])
        state = None if before is None else before.map(lambda _: next(remembered))
        hidden, maps, state = self.model.read_on(inputs[0], state, tables)
        # Only of the last position; a map has a row for each.
        hidden, maps = hidden[:, -1:], tuple(each[-1:] for each in maps)
        of_head = maps if self.model.head.reads_map else ()
        outcome = None if self.model.outcome is None else self.model.outcome(hidden, *maps)
        return _said(self.model.head(hidden, *of_head)[0, 0], outcome), state

    def _read_window(self) -> Tensor:
        """The same, of the last tokens alone."""
        positions, context = self._positions, self.context
        assert context is not None
        tokens, tables = self._tokens_of(positions[-context:]), self._tables_of(positions)
        if self.model.features is not None:
            tables = self.model.features.last(tables, tokens.shape[1])
        return self._replays("window", self._of_window, (tokens, *tables))[0]

    def _of_window(self, inputs: Sequence[Tensor]) -> tuple[Tensor, None]:
        tokens, tables = inputs[0], tuple(inputs[1:])
        if self.model.outcome is None:
            return _said(self.model(tokens, None, tables)[0, -1], None), None
        logits, outcome = self.model.outlook(tokens, tables)
        return _said(logits[0, -1], outcome), None

    def _tokens_of(self, positions: list[_Position]) -> Tensor:
        return torch.tensor([[position.token for position in positions]], device=self.device)

    def _tables_of(self, positions: list[_Position]) -> tuple[Tensor, ...]:
        """The tables of the model's features, (1, L, …)."""
        if self.model.features is None:
            return ()
        for position in positions:
            if position.rows is None:
                position.rows = self._reader(position.engine)[0]
        rows = [position.rows for position in positions if position.rows is not None]
        return self.model.features.begun(torch.stack(rows, 1))


def _said(logits: Tensor, outcome: Outcome | None) -> Tensor:
    """Logits (V,), and of an outcome (1, L) what it says last: win, score, and owners (n²) if so.

    They are in one tensor, because a replay hands out one, and only one is copied to the host.
    """
    said = [logits]
    if outcome is not None:
        said += [outcome.win[0, -1:], outcome.score[0, -1:]]
        said += [] if outcome.ownership is None else [outcome.ownership[0, -1].flatten()]
    return torch.cat([each.float() for each in said])
