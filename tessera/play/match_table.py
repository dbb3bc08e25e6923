"""Games of two sides that are played at once: whoever is ready moves, in one batch.

Shapes: B places, each with one game after another.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.randomness import MOVE, random_words
from tessera.play.apart import steady
from tessera.play.contestants import Contestant, Loss, Remote
from tessera.play.referee import why_illegal
from tessera.transfers import to_host

_GAMES = 2  # of each opening
_OWNER = "match"  # of what is copied to the host
# Of the time that a batch of our own took, the next one waits so much for more games to be ready:
# otherwise half of them would wait for the other half, in turns.
_PATIENCE = 0.25
# A GPU's batches have as many rows as it takes of these, however many games are played at once.
_ROWS = 32


@dataclass(frozen=True, slots=True)
class Fixture:
    """A game that is to be played.

    Attributes:
        number: of its opening.
        first_is_black: whether the first side has black.
        opening: the tokens that it begins with.
    """

    number: int
    first_is_black: bool
    opening: tuple[int, ...]

    @property
    def game(self) -> int:
        """The game's own number: two for each opening."""
        return _GAMES * self.number + (not self.first_is_black)


@dataclass(frozen=True, slots=True)
class PlayedGame:
    """A game and how it ended.

    Attributes:
        fixture: which one it was.
        moves: tokens, the opening's among them.
        score: black's area minus white's minus komi as the board stood at the end, in points.
        points: of the first side: 1 for a win, 0.5, 0.
        digest: the same of two games if their moves are.
        seconds: that each side took for its moves.
        num_chosen: moves that each side chose.
        forfeit: what the loser did that lost the game at once; None if it was played to its end.
        ended: ``passes``, ``limit``, ``resignation`` or ``forfeit``.
    """

    fixture: Fixture
    moves: tuple[int, ...]
    score: float
    points: float
    digest: str
    seconds: tuple[float, float] = (0.0, 0.0)
    num_chosen: tuple[int, int] = (0, 0)
    ended: str = "passes"
    forfeit: str | None = None

    @property
    def black_points(self) -> float:
        """Black's points: 1, 0.5 or 0."""
        return self.points if self.fixture.first_is_black else 1 - self.points

    @property
    def loser(self) -> int | None:
        """0 for the first side, 1 for the second; None for a draw."""
        return {0.0: 0, 1.0: 1}.get(self.points)


def digest_of(board_size: int, moves: Sequence[int]) -> str:
    """A game's moves as 16 hexadecimal digits; games that differ have different ones."""
    text = f"{board_size}:{' '.join(map(str, moves))}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class _Place:
    """A game that is being played."""

    fixture: Fixture
    moves: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    num_chosen: list[int] = field(default_factory=lambda: [0, 0])

    def side_to_move(self) -> int | None:
        """0 for the first side, 1 for the second; None while the opening is played."""
        if len(self.moves) < len(self.fixture.opening):
            return None
        return (len(self.moves) + (not self.fixture.first_is_black)) % 2


class MatchTable:
    """B places at which two sides play; a place takes the next game when one is over.

    A side that answers later (``Remote``) holds up nobody: in each round those games move on that
    can, in one batch, and only if there are none an answer is waited for; but for a quarter of the
    time that the batch before took. What it has to do with time changes no move: see ``steady``.

    Args:
        sides: the first and the second.
        num_places: B.
        board_size: n.
        rules: of all games.
        seed: of what the sides draw: the draws are a function of (seed, game, ply).
        device: where the engine is, and where the sides play.
        tell: called after every round with the plies of all games so far.
    """

    def __init__(
        self,
        sides: tuple[Contestant, Contestant],
        num_places: int,
        *,
        board_size: int,
        rules: Rules,
        seed: int,
        device: str | torch.device,
        tell: Callable[[int], object] | None = None,
    ) -> None:
        self._seed, self._tell = seed, tell
        self._num_plies, self._patient_until = 0, 0.0
        self._has_waited = False
        rows, self._num_places, first, second = num_places, num_places, *sides
        if any(isinstance(side, Remote) for side in sides):
            device = torch.device(device)
            first, second = steady(first, device), steady(second, device)
            rows = num_places if device.type == "cpu" else -(-num_places // _ROWS) * _ROWS
        self._sides = first, second
        self._engine = GPUGoEngine(rows, device, board_size, rules)
        self._pad = self._engine.vocabulary.pad_token
        self._places: list[_Place | None] = [None] * rows
        self._bell = threading.Event()

    def play(self, fixtures: Iterable[Fixture]) -> Iterator[PlayedGame]:
        """Play these games; each is given as soon as it is over."""
        waiting = iter(fixtures)
        for side in self._sides:
            if isinstance(side, Remote):
                side.ring(self._bell)
            side.begin(self._engine)
        self._see(self._fill(waiting))
        while any(self._places):
            self._bell.clear()  # before the answers are taken, so that none is missed
            tokens = self._opening_moves()
            losses = self._chosen_moves(tokens)
            if not losses and all(token == self._pad for token in tokens):
                left = max(0.0, self._patient_until - time.perf_counter())
                self._bell.wait(left if self._has_waited else None)
                continue
            self._engine.play_batch(self._tensor(tokens))
            for place, token in zip(self._places, tokens, strict=True):
                if place is not None and token != self._pad:
                    place.moves.append(token)
                    self._num_plies += 1
            if self._tell is not None:
                self._tell(self._num_plies)
            yield from self._finished(tokens, losses)
            for at, token in self._fill(waiting).items():
                tokens[at] = token
            self._see(dict(enumerate(tokens)))

    def _fill(self, waiting: Iterator[Fixture]) -> dict[int, int]:
        """Begin the next games at the places that are free; EOS by these."""
        begun = {}
        for at, place in enumerate(self._places[: self._num_places]):
            if place is None and (fixture := next(waiting, None)) is not None:
                self._places[at] = _Place(fixture)
                begun[at] = self._engine.vocabulary.eos_token
        if begun:
            mask = torch.zeros(len(self._places), dtype=torch.bool)
            mask[list(begun)] = True
            self._engine.reset(mask)
        return begun

    def _see(self, happened: dict[int, int]) -> None:
        tokens = [happened.get(at, self._pad) for at in range(len(self._places))]
        # Of a game that is over nobody needs to know.
        for at, place in enumerate(self._places):
            tokens[at] = self._pad if place is None else tokens[at]
        seen = self._tensor(tokens)
        reading = [
            place
            for place, token in zip(self._places, tokens, strict=True)
            if place is not None and token != self._pad and place.side_to_move() is not None
        ]
        for number, side in enumerate(self._sides):
            began = time.perf_counter()
            side.see(self._engine, seen)
            if not isinstance(side, Remote):  # which says how long it took
                share = (time.perf_counter() - began) / max(1, len(reading))
                for place in reading:
                    place.seconds[number] += share

    def _opening_moves(self) -> list[int]:
        """The next move of every game that still plays its opening, PAD for the others."""
        return [
            self._pad
            if place is None or place.side_to_move() is not None
            else place.fixture.opening[len(place.moves)]
            for place in self._places
        ]

    def _chosen_moves(self, tokens: list[int]) -> dict[int, tuple[int, Loss]]:
        """Put the sides' moves into ``tokens``; by place, who lost a game at once and why."""
        losses: dict[int, tuple[int, Loss]] = {}
        turns = [None if place is None else place.side_to_move() for place in self._places]
        words, self._has_waited = self._words(), False
        for number, side in enumerate(self._sides):
            mine = [at for at, turn in enumerate(turns) if turn == number]
            is_remote = isinstance(side, Remote)
            if not mine or (not is_remote and self._is_patient(turns)):
                continue
            is_mine = torch.zeros(len(turns), dtype=torch.bool)
            is_mine[mine] = True
            began = time.perf_counter()
            said = side.moves(self._engine, is_mine.to(self._engine.device), words)
            chosen: list[int] = to_host(said, _OWNER).tolist()
            ended = time.perf_counter()
            share = (ended - began) / len(mine)
            if not is_remote:
                self._patient_until = ended + _PATIENCE * (ended - began)
            seconds = {}
            if isinstance(side, Remote):
                losses |= {at: (number, loss) for at, loss in side.take_losses().items()}
                seconds = side.take_seconds()
            answered = [at for at in mine if at not in losses and chosen[at] != self._pad]
            if isinstance(side, Remote):
                for at, loss in self._illegal(answered, chosen).items():
                    losses[at] = (number, loss)
            for at in answered:
                place = self._places[at]
                assert place is not None
                place.seconds[number] += seconds.get(at, share)
                place.num_chosen[number] += 1
                if at not in losses:
                    tokens[at] = chosen[at]
        return losses

    def _is_patient(self, turns: Sequence[int | None]) -> bool:
        """Whether a batch waits for answers that are about to come, see ``_PATIENCE``."""
        is_awaited = any(
            turn is not None and isinstance(self._sides[turn], Remote) for turn in turns
        )
        self._has_waited = is_awaited and time.perf_counter() < self._patient_until
        return self._has_waited

    def _illegal(self, places: list[int], chosen: list[int]) -> dict[int, Loss]:
        """Of these places those where the move is illegal."""
        if not places:
            return {}
        engine = self._engine
        legal = to_host(engine.get_legal_mask(), _OWNER)
        found = {}
        for at in places:
            if not legal[at, chosen[at]]:
                reason = why_illegal(engine, at, chosen[at]).replace("the model's", "the")
                found[at] = Loss(f"illegal move: {engine.vocabulary.vertex(chosen[at])} {reason}")
        return found

    def _words(self) -> Tensor:
        """(B,) int64 random bits, of each game and ply its own."""
        games = [0 if place is None else place.fixture.game for place in self._places]
        plies = [0 if place is None else len(place.moves) for place in self._places]
        return random_words(self._seed, self._tensor(games), self._tensor(plies), MOVE)

    def _finished(self, tokens: list[int], losses: dict[int, tuple[int, Loss]]) -> list[PlayedGame]:
        """Clear the places whose games are over; the games."""
        engine = self._engine
        is_over = to_host(engine.is_game_over(), _OWNER).tolist()
        over = [
            at
            for at, place in enumerate(self._places)
            if place is not None and (is_over[at] or at in losses)
        ]
        if not over:
            return []
        scores = to_host(engine.score(), _OWNER).tolist()
        limits = to_host(engine.passes < 2, _OWNER).tolist()
        games = []
        for at in over:
            place = self._places[at]
            assert place is not None
            games.append(self._ended(place, scores[at], limits[at], losses.get(at)))
            self._places[at] = None
        return games

    def _ended(
        self, place: _Place, score: float, is_at_limit: bool, loss: tuple[int, Loss] | None
    ) -> PlayedGame:
        fixture, forfeit = place.fixture, None
        if loss is None:
            black_points = 0.5 if score == 0 else float(score > 0)
            points = black_points if fixture.first_is_black else 1 - black_points
            ended = "limit" if is_at_limit else "passes"
        else:
            side, why = loss
            points = float(side == 1)
            ended = "resignation" if why.resigned else "forfeit"
            forfeit = None if why.resigned else why.reason
        return PlayedGame(
            fixture,
            tuple(place.moves),
            score,
            points,
            digest_of(self._engine.board_size, place.moves),
            (place.seconds[0], place.seconds[1]),
            (place.num_chosen[0], place.num_chosen[1]),
            ended,
            forfeit,
        )

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._engine.device)
