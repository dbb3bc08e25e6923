"""The game behind a GTP engine: colours in any order, handicap, a model's moves, SGF files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.play.ending import PLAYOUTS, Ending, ending_of
from tessera.play.handicap import fixed_points, most_stones
from tessera.play.map import PlayedOut, played_out
from tessera.play.session import Mark, Outlook, Session
from tessera.play.sgf import read_sgf
from tessera.play.sgf_session import lead_to, session_document

BLACK, WHITE = 0, 1
_MOST_MIB = 64  # of an SGF file


class GtpError(ValueError):
    """What is answered with a question mark; the message says why."""


@dataclass(frozen=True, slots=True)
class GameMark:
    """A game as it stood once, see ``GtpGame.mark``."""

    session: Mark
    komi: float
    plies: tuple[int, ...]
    of_model: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a position, seen from the player to move.

    Attributes:
        outlook: the model's; win and score are those of playouts if the model has no outcome.
        ownership: (n, n), whose each point will be, by the model or, if it does not say it, by
            playouts: 1 the player's to move, -1 the other's; None if neither says it.
    """

    outlook: Outlook
    ownership: Tensor | None = None


class GtpGame:
    """A session as the protocol has games.

    The colours may come in any order: to the model the other one has passed then. Handicap stones
    are such moves of black's, which are not taken back.

    Args:
        session: the game.
        temperature: a move of the model is drawn with probabilities to the power of 1 over this; 0
            takes the likeliest one.
        resign_below: the win probability below which the model resigns; None for never.
        seed: of what is drawn; None for another one every time.
        num_playouts: games that are played out to say how a game ends, and what analyses tell of
            that; 0 for none; None for as many as ``ending_of`` plays, and none for analyses.

    Attributes:
        komi: by which the game is scored; the model is not told.
    """

    def __init__(
        self,
        session: Session,
        temperature: float = 0.0,
        resign_below: float | None = None,
        seed: int | None = None,
        num_playouts: int | None = None,
    ) -> None:
        self.session, self.temperature, self.resign_below = session, temperature, resign_below
        self.komi = session.rules.komi
        # The plies of each move: two, if the other colour was made to pass before it.
        self._plies: list[int] = []
        # For each move the colour, if it is one of the model's.
        self._of_model: list[int | None] = []
        self._num_playouts = PLAYOUTS if num_playouts is None else num_playouts
        self._num_told = num_playouts or 0
        self._ending: tuple[GPUGoEngine, Ending] | None = None
        self._played: tuple[GPUGoEngine, float, PlayedOut] | None = None
        self._random = torch.Generator()
        if seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(seed)

    def mark(self) -> GameMark:
        """The game as it stands, for ``go_back``."""
        marks = tuple(self._plies), tuple(self._of_model)
        return GameMark(self.session.mark(), self.komi, *marks)

    def go_back(self, mark: GameMark) -> None:
        """Let the game be what it was."""
        self.session.go_back(mark.session)
        self.komi, self._plies = mark.komi, list(mark.plies)
        self._of_model = list(mark.of_model)

    def clear(self) -> None:
        """Begin a new game on the empty board."""
        self.session.clear()
        self._plies, self._of_model = [], []

    def play(self, colour: int, token: int) -> None:
        """Play for a colour, whoever's turn it is.

        Raises:
            IllegalMoveError: if the move is illegal; the other colour may have passed by then.
        """
        plies = self._let_move(colour)
        self.session.play(token)
        self._plies.append(plies + 1)
        self._of_model.append(None)

    def _let_move(self, colour: int) -> int:
        """Make it this colour's turn; the number of passes that took."""
        if colour == self.session.turn:
            return 0
        self.session.play(self.session.vocabulary.pass_token)
        return 1

    def undo(self) -> None:
        """Take the last move back.

        Raises:
            GtpError: if there is none.
        """
        if not self._plies:
            raise GtpError("cannot undo")
        self._of_model.pop()
        for _ in range(self._plies.pop()):
            self.session.undo()

    # The model.

    def outlook_of(self, colour: int) -> Outlook:
        """What the model expects of a colour, whoever's turn it is; the game stays as it is."""
        before = self.session.mark()
        self._let_move(colour)
        outlook = self.session.outlook()
        self.session.go_back(before)
        return outlook

    @property
    def tells_ownership(self) -> bool:
        """Whether ``told`` has an ownership, of the model or of playouts."""
        return bool(self._num_told) or self.session.says_ownership

    def told(self, colour: int | None = None) -> Told:
        """What is told of a colour, whoever's turn it is, None for his who is to move."""
        before = self.session.mark()
        if colour is not None:
            self._let_move(colour)
        outlook = self.session.outlook()
        ownership = outlook.ownership
        if self._num_told and ownership is None:
            played = self._played_out()
            if outlook.win is None:
                outlook = replace(outlook, win=played.win, score=played.score)
            ownership = played.ownership
        if ownership is not None and self.session.turn == WHITE:
            ownership = -ownership
        self.session.go_back(before)
        return Told(outlook, ownership)

    def _played_out(self) -> PlayedOut:
        """Games from the session's position to their ends; the last ones are remembered."""
        engine = self.session.engine
        if self._played is None or self._played[:2] != (engine, self.komi):
            ending = self.ending() if self.session.is_over else None
            played = played_out(self.session, self._num_told, komi=self.komi, ending=ending)
            self._played = engine, self.komi, played
        return self._played[2]

    def move_of_model(self, colour: int, among: Collection[int] | None = None) -> str:
        """Let the model play for a colour: the vertex, or ``resign``, where nothing is played.

        Args:
            colour: whose move it is.
            among: the tokens that it may play, and pass if none of them is legal; None for all.
        """
        before = self.session.mark()
        plies = self._let_move(colour)
        outlook, limit = self.session.outlook(), self.resign_below
        if limit is not None and outlook.win is not None and outlook.win < limit:
            self.session.go_back(before)
            return "resign"
        token = self._drawn(outlook, among)
        self.session.play(token)
        self._plies.append(plies + 1)
        self._of_model.append(colour)
        return self.session.vocabulary.vertex(token)

    def _drawn(self, outlook: Outlook, among: Collection[int] | None) -> int:
        chances = outlook.probabilities.double()
        if among is not None:
            chosen = torch.zeros_like(chances)
            chosen[list(among)] = chances[list(among)]
            if not chosen.any():
                return self.session.vocabulary.pass_token
            chances = chosen
        if self.temperature == 0:
            return int(chances.argmax())
        scores = chances.log()
        weights = ((scores - scores.max()) / self.temperature).softmax(0)
        return int(torch.multinomial(weights, 1, generator=self._random))

    # Handicap.

    def fixed_handicap(self, stones: int) -> list[int]:
        """Place so many stones on the protocol's points, which are returned."""
        most = most_stones(self.session.board_size)
        if not most:
            raise GtpError("there is no fixed handicap on boards of less than 7 lines")
        self._check_handicap(stones, most)
        return self.set_handicap(fixed_points(stones, self.session.vocabulary))

    def free_handicap(self, stones: int) -> list[int]:
        """Place so many stones, fixed points first, then where the model likes black's best."""
        vocabulary = self.session.vocabulary
        self._check_handicap(stones, vocabulary.num_points - 1)
        fixed = min(stones, most_stones(vocabulary.board_size))
        points = self.set_handicap(fixed_points(fixed, vocabulary))
        while len(points) < stones:
            chances = self.outlook_of(BLACK).probabilities[: vocabulary.num_points]
            if not bool(chances.any()):
                break
            points += self.set_handicap([int(chances.argmax())])
        return points

    def set_handicap(self, points: Sequence[int]) -> list[int]:
        """Place stones on these points, which are returned."""
        for point in points:
            self.play(BLACK, point)
        self._plies, self._of_model = [], []  # what is undone are moves
        return list(points)

    def _check_handicap(self, stones: int, most: int) -> None:
        self.check_is_empty()
        if not 2 <= stones <= most:
            raise GtpError(f"invalid number of stones: it must be 2 to {most}")

    def check_is_empty(self) -> None:
        """Raise GtpError if something was played."""
        if self.session.moves:
            raise GtpError("board not empty")

    # The end, and a file.

    def ending(self) -> Ending:
        """How the game stands if it ended now; asked again in a position, the same record."""
        engine = self.session.engine
        if self._ending is None or self._ending[0] is not engine:
            self._ending = engine, ending_of(self.session, self._num_playouts)
        return self._ending[1]

    def load(self, name: str, plies: int | None) -> None:
        """Begin the first game of an SGF file, with its komi if it has one.

        Args:
            name: of the file.
            plies: how many of its moves are played; None for all.

        Raises:
            GtpError: if it cannot be read, or the game not be played here; it may have begun then.
        """
        try:
            with Path(name).open("rb") as file:
                content = file.read((_MOST_MIB << 20) + 1)
        except OSError as error:
            raise GtpError(f"cannot load file: {error.strerror}") from None
        except ValueError:  # such as a name with a zero in it
            raise GtpError("cannot load file: there is none of that name") from None
        if len(content) > _MOST_MIB << 20:
            raise GtpError(f"cannot load file: it must have at most {_MOST_MIB} MiB")
        game = read_sgf(content, allows_set_up=True)[0]
        if isinstance(game, ValueError):
            raise GtpError(f"cannot load file: {game}")
        if game.board_size != self.session.board_size:
            raise GtpError(f"cannot load file: its board has {game.board_size} lines")
        try:
            self._plies = [1] * lead_to(self.session, game, plies)
            self._of_model = [None] * len(self._plies)
        except ValueError as error:
            raise GtpError(f"cannot load file: {error}") from None
        if game.komi is not None:
            self.komi = game.komi

    def sgf(self) -> bytes:
        """The game as an SGF file; with its result if it is over."""
        document = session_document(self.session)
        root = document.get_root()
        root.set("AP", ("tessera", "gtp"))
        root.set("KM", self.komi)
        for colour, name in enumerate(("PB", "PW")):
            if colour in self._of_model:
                root.set(name, "tessera")
        if self.session.is_over:
            root.set("RE", self.ending().score(self.komi))
        content: bytes = document.serialise()
        return content

    def save(self, name: str) -> None:
        """Write the game into a file.

        Raises:
            GtpError: if it cannot be written.
        """
        try:
            Path(name).write_bytes(self.sgf())
        except OSError as error:
            raise GtpError(f"cannot write file: {error.strerror}") from None
        except ValueError:  # such as a name with a zero in it
            raise GtpError("cannot write file: there can be none of that name") from None
