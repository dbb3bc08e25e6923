"""An engine of the Go Text Protocol as a side of a match: a process and a thread for each game."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.play.contestants import Loss
from tessera.play.gtp_process import EngineFault, GtpEngine
from tessera.transfers import to_host
from tessera.vocabulary import Vocabulary

_COLOURS = ("black", "white")
_MOST_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Question:
    """What an engine is asked: to choose the next move of a game.

    Attributes:
        moves: tokens of the whole game.
        num_told: how many of them it has been told, or chose itself.
        seed: for a new game; None if it goes on.
    """

    moves: tuple[int, ...]
    num_told: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of it.

    Attributes:
        found: the token, or why the game is lost; an error that is nobody's fault but ours.
        seconds: that it took.
    """

    found: int | Loss | BaseException
    seconds: float


class _Worker:
    """An engine and the thread that talks to it; one that failed is started anew when asked."""

    def __init__(
        self, make: Callable[[], GtpEngine], board_size: int, tell: Callable[[_Answer], None]
    ) -> None:
        self._make, self._vocabulary, self._tell = make, Vocabulary(board_size), tell
        self.engine: GtpEngine | None = None
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._is_busy = self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self, question: _Question) -> None:
        """The answer is told later."""
        self._is_busy = True
        self._questions.put(question)

    def end(self) -> None:
        """Let the engine end, at once if it is at something; nothing is waited for."""
        self._is_closed = True
        self._questions.put(None)
        if self._is_busy and (engine := self.engine) is not None:
            engine.kill()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            began = time.perf_counter()
            found: int | Loss | BaseException
            try:
                found, began = self._answer(question)
            except EngineFault as fault:
                found = Loss(str(fault))
                self._discard()
            except BaseException as error:  # raised again where the answer is taken
                found = error
            self._is_busy = False
            self._tell(_Answer(found, time.perf_counter() - began))
        if self.engine is not None:
            self.engine.close(asks=not self._is_busy)

    def _discard(self) -> None:
        if self.engine is not None:
            self.engine.close(asks=False)
            self.engine = None

    def _started(self) -> GtpEngine:
        """The engine, started if there is none."""
        if self.engine is None:
            try:
                self.engine = self._make()
                if self._is_closed:
                    self.engine.kill()
                self.engine.start()
            except EngineFault as fault:
                raise EngineFault(f"could not be started: {fault}") from None
        return self.engine

    def _answer(self, question: _Question) -> tuple[int | Loss, float]:
        """The answer, and when the engine began to think."""
        engine, moves, vertex = self._started(), question.moves, self._vocabulary.vertex
        if question.seed is not None:
            engine.begin(question.seed)
        untold = [(_COLOURS[ply % 2], vertex(moves[ply])) for ply in range(len(moves))]
        untold = untold[question.num_told :]
        # The opening takes no time of the first move's.
        engine.tell(untold[:-1])
        began = time.perf_counter()
        said = engine.choose(untold[-1:], _COLOURS[len(moves) % 2])
        if said.lower() == "resign":
            return Loss("resigned", resigned=True), began
        try:
            token = self._vocabulary.token(said)
        except ValueError:
            token = self._vocabulary.pad_token
        if token > self._vocabulary.pass_token:
            raise EngineFault(f"answered genmove with {said[:60]!r}")
        return token, began


@dataclass(slots=True)
class _Game:
    """What is known of the game at a place."""

    moves: list[int]
    num_told: int = 0
    is_told: bool = False  # that it has begun
    is_asked: bool = False


class GtpSide:
    """A ``Remote`` side: engines that are started by one command, one for each place.

    An engine that crashes, hangs, answers nonsense or writes without end has lost that game; it is
    killed, and started anew for the next one. Where the engine knows ``set_random_seed`` and
    ``clear_cache``, as GNU Go does, a game does not depend on those before it.

    Args:
        command: of the engine, see ``GtpProcess``.
        board_size: n.
        rules: of the games.
        deadline_s: seconds for a move.
        start_s: seconds to start in.

    Attributes:
        name: what results call it.
        title: what it says that it is.

    Raises:
        EngineFault: if it cannot be started, or does not play on such a board.
    """

    def __init__(
        self,
        command: str,
        board_size: int,
        rules: Rules,
        deadline_s: float = 30.0,
        start_s: float = 60.0,
        name: str | None = None,
    ) -> None:
        self.name = f"gtp:{command}" if name is None else name
        self._make = lambda: GtpEngine(command, board_size, rules, deadline_s, start_s)
        self._board_size = board_size
        engine = self._make()
        try:
            engine.start()
        except BaseException:
            engine.close(asks=False)
            raise
        self._spare: GtpEngine | None = engine
        self.title = engine.title
        self._workers: list[_Worker] = []
        self._bell = threading.Event()
        self._answers: queue.SimpleQueue[tuple[int, _Answer]] = queue.SimpleQueue()
        self._games: list[_Game] = []
        self._losses: dict[int, Loss] = {}
        self._seconds: dict[int, float] = {}

    def ring(self, bell: threading.Event) -> None:
        """See ``Remote``."""
        self._bell = bell

    def begin(self, engine: GPUGoEngine) -> None:
        """See ``Contestant``."""
        for place in range(len(self._workers), engine.batch_size):
            worker = _Worker(self._make, self._board_size, self._teller(place))
            worker.engine, self._spare = self._spare, None
            self._workers.append(worker)
        self._games = [_Game([]) for _ in range(engine.batch_size)]
        self._losses, self._seconds = {}, {}
        self._vocabulary = engine.vocabulary

    def _teller(self, place: int) -> Callable[[_Answer], None]:
        def tell(answer: _Answer) -> None:
            self._answers.put((place, answer))
            self._bell.set()

        return tell

    def see(self, engine: GPUGoEngine, tokens: Tensor) -> None:
        """Note the moves, which the engines are told when they are to move; see ``Contestant``."""
        for place, token in enumerate(to_host(tokens, "match").tolist()):
            if token == self._vocabulary.eos_token:
                self._games[place] = _Game([])
            elif token != self._vocabulary.pad_token:
                self._games[place].moves.append(token)

    def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
        """Ask where nobody has asked yet, and take the answers that are there; see ``Remote``."""
        drawn = to_host(words, "match").tolist()
        for place, mine in enumerate(to_host(is_mine, "match").tolist()):
            game = self._games[place]
            if not mine or game.is_asked:
                continue
            seed = None if game.is_told else drawn[place] % _MOST_SEED
            self._workers[place].ask(_Question(tuple(game.moves), game.num_told, seed))
            game.is_asked = game.is_told = True
        found = [self._vocabulary.pad_token] * len(self._games)
        while not self._answers.empty():
            place, answer = self._answers.get()
            game = self._games[place]
            game.is_asked = False
            # What it chooses it has played.
            game.num_told = len(game.moves) + 1
            self._seconds[place] = answer.seconds
            if isinstance(answer.found, BaseException):
                raise answer.found
            if isinstance(answer.found, Loss):
                self._losses[place] = answer.found
            else:
                found[place] = answer.found
        return torch.tensor(found, dtype=torch.int64, device=engine.device)

    def take_losses(self) -> dict[int, Loss]:
        """See ``Remote``."""
        taken, self._losses = self._losses, {}
        return taken

    def take_seconds(self) -> dict[int, float]:
        """See ``Remote``."""
        taken, self._seconds = self._seconds, {}
        return taken

    def close(self) -> None:
        """End all engines."""
        if self._spare is not None:
            self._spare.close()
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.join()
