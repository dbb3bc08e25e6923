"""The map of possibilities of one position: a probability for every legal move."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tessera.go import play_out
from tessera.play.drawing import Scene
from tessera.play.ending import PLAYOUTS, Ending, ending_of, settled_of
from tessera.play.intervals import Z_95, wilson
from tessera.play.session import Session
from tessera.setting_errors import whole_number
from tessera.transfers import to_host
from tessera.vocabulary import Vocabulary

COLOURS = ("black", "white")
LETTERS = "abcdefghij"  # of the likeliest moves
CLEAR = 0.5  # of an ownership: three chances of four that a point is a player's


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose the points are or will be, as a board that is shown.

    Attributes:
        title: of the board.
        ownership: (n, n), +1 black's, -1 white's.
        words: for a point that is a player's with three chances of four or more, for one that is
            likelier his, and for a larger sign; None where it is certain.
    """

    title: str
    ownership: Tensor
    words: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class PlayedOut:
    """How games of the rule-based player ended that went on from a position.

    Of a game that is over there is one end, see ``ending_of``, and nothing left to chance.

    Attributes:
        num_games: of how many it was counted.
        win: share of them that the player to move won; a draw is half.
        win_interval: the ends of its 95 % interval, after Wilson 1927, which is no point where all
            games ended alike.
        score: points by which the player to move won on average.
        score_error: half the width of its 95 % interval.
        ownership: (n, n) float64, +1 where a point was black's in the end of all games, -1 white's.
        is_over: whether the game had ended by two passes.
    """

    num_games: int
    win: float
    win_interval: tuple[float, float]
    score: float
    score_error: float
    ownership: Tensor
    is_over: bool = False

    def owners(self) -> Owners:
        """Whose each point was, to be shown."""
        if self.is_over:
            return Owners("Whose each point is, dead stones taken off", self.ownership)
        title = f"Whose each point is at the end of {self.num_games:,} playouts"
        words = ("in three of four playouts or more", "more often", "the more often")
        return Owners(title, self.ownership, words)

    def as_json(self) -> dict[str, Any]:
        """Everything by name."""
        return {
            "num_games": self.num_games,
            "win": _decimal(self.win),
            "win_interval": [_decimal(end) for end in self.win_interval],
            "score": _decimal(self.score),
            "score_error": _decimal(self.score_error),
            "ownership": _decimals(self.ownership),
        }


@dataclass(frozen=True, slots=True)
class PositionMap:
    """What may be played in a position.

    Attributes:
        stones: (n, n) int: +1 black, -1 white, 0 empty.
        turn: who moves: 0 black, 1 white.
        moves: tokens that led here; None for a position that was set up.
        probabilities: (n² + 1,) float32 of points, then pass; 0 where illegal, they sum to 1.
        legal: (n² + 1,) bool, True where a move is legal.
        legal_mass: what the model gave to all legal moves, of 1, before the rest was left out.
        settled: (n, n) int: +1 black's for good, -1 white's, 0 neither's; None where the rules
            know none.
        win: the probability that the player to move wins; None if the model does not say.
        score: points by which the player to move is expected to win; None likewise.
        played_out: what playouts say; None if none were asked for.
        moves_since: tokens played since the position was set up; None if it was not.
        handicap: stones of black's handicap, which begin ``moves`` with white's passes between; no
            line counts them as moves.
        ownership: (n, n), whose each point will be: +1 black's, -1 white's; None if the model does
            not say.
    """

    stones: Tensor
    turn: int
    moves: list[int] | None
    probabilities: Tensor
    legal: Tensor
    legal_mass: float
    settled: Tensor | None = None
    win: float | None = None
    score: float | None = None
    played_out: PlayedOut | None = None
    moves_since: list[int] | None = None
    handicap: int = 0
    ownership: Tensor | None = None

    @property
    def num_moves(self) -> int:
        """Moves played, without the handicap and the passes that stand for it."""
        played = self.moves or self.moves_since or []
        return len(played) - max(0, 2 * self.handicap - 1)

    @property
    def board_size(self) -> int:
        """The size n of the board."""
        return self.stones.shape[0]

    @property
    def vocabulary(self) -> Vocabulary:
        """The names of its points."""
        return Vocabulary(self.board_size)

    @property
    def to_play(self) -> str:
        """Who moves, black or white."""
        return COLOURS[self.turn]

    @property
    def last_move(self) -> int | None:
        """The token of the last move; None if there is none."""
        moves = self.moves or self.moves_since
        return moves[-1] if moves and self.num_moves else None

    @property
    def is_over(self) -> bool:
        """Whether the last two moves were passes."""
        passed = self.vocabulary.pass_token
        return (self.moves or self.moves_since or [])[-2:] == [passed, passed]

    @property
    def pass_chance(self) -> float:
        """The probability of a pass."""
        return float(self.probabilities[-1])

    def likeliest(self) -> dict[str, tuple[int, float]]:
        """By letter from a on, the likeliest legal points and their probabilities."""
        points = self.stones.numel()
        order = self.probabilities[:points].argsort(descending=True, stable=True).tolist()
        chances = [(point, float(self.probabilities[point])) for point in order]
        return dict(zip(LETTERS, (pair for pair in chances if self.legal[pair[0]]), strict=False))

    def scene(self) -> Scene:
        """What a picture shows of the position."""
        maps = {"": self.probabilities}
        return Scene(self.stones, self.last_move, self.num_moves, maps, self.legal, self.settled)

    def owners(self) -> list[Owners]:
        """Whose the points will be: by the model, if it says it, then by playouts."""
        shown = []
        if self.ownership is not None:
            words = ("with three chances of four or more", "likelier", "the surer")
            title = "Whose each point will be, says the model"
            shown.append(Owners(title, self.ownership, words))
        return shown if self.played_out is None else [*shown, self.played_out.owners()]

    def title(self) -> str:
        """The position in a few words."""
        to_play = f"{self.to_play} to play"
        number = self.num_moves
        after = f"after {number} move{'s' if number > 1 else ''}"
        if self.moves is None:
            return f"{to_play} {after}, set up before" if number else f"{to_play}, set up"
        if self.handicap:
            stones = f"{self.handicap} handicap stones"
            return f"{to_play} {after} and {stones}" if number else f"{to_play}, {stones}"
        return f"{to_play} {after}" if number else f"{to_play}, empty board"

    def facts(self) -> list[str]:
        """What else is known, a sentence each."""
        facts = []
        if self.win is not None and self.score is not None:
            score = self._result(self.score)
            facts.append(f"{self.to_play} wins {100 * self.win:.1f} %, score {score}")
        played = self.played_out
        if played is not None and played.is_over:
            facts.append(
                f"the game is over, score {self._result(played.score)} without dead stones"
            )
        elif played is not None:
            low, high = (100 * end for end in played.win_interval)
            facts.append(
                f"in {played.num_games:,} playouts {self.to_play} wins {100 * played.win:.1f} % "
                f"({low:.1f} to {high:.1f}), score {self._result(played.score)} "
                f"(± {played.score_error:.1f})"
            )
        elif self.is_over:
            facts.append("the game is over after two passes, so a model may expect no more moves")
        facts.append(f"given to what is no legal move: {100 * (1 - self.legal_mass):.1f} %")
        return facts

    def _result(self, score: float) -> str:
        """A score of the player to move as Go programs write it, such as ``W+3.5``."""
        leader = self.turn if score >= 0 else 1 - self.turn
        return f"{'BW'[leader]}+{abs(score):.1f}"

    def as_json(self) -> dict[str, Any]:
        """Everything by name; each probability has as many digits as a float32 needs."""
        vertex = self.vocabulary.vertex
        moves, since = (
            None if played is None else [vertex(move) for move in played]
            for played in (self.moves, self.moves_since)
        )
        board = ["".join(".XO"[stone] for stone in row) for row in self.stones.tolist()]
        settled: dict[str, list[str]] | None = None
        if self.settled is not None:
            owners = self.settled.flatten().tolist()
            settled = {
                colour: [vertex(point) for point, owner in enumerate(owners) if owner == sign]
                for colour, sign in zip(COLOURS, (1, -1), strict=True)
            }
        of_model = {
            "win": None if self.win is None else _decimal(self.win),
            "score": None if self.score is None else _decimal(self.score),
            "ownership": None if self.ownership is None else _decimals(self.ownership),
        }
        legal = self.legal.tolist()
        stones = self.stones.flatten().tolist()
        return {
            "board_size": self.board_size,
            "moves": moves,
            "moves_since_set_up": since,
            "board": board,
            "to_play": self.to_play,
            "probabilities": {
                vertex(token): _decimal(chance)
                for token, chance in enumerate(self.probabilities.tolist())
                if legal[token]
            },
            "illegal": [vertex(p) for p, stone in enumerate(stones) if not (stone or legal[p])],
            "legal_mass": _decimal(self.legal_mass),
            "settled": settled,
            **of_model,
            "said_by": {name: "model" for name, said in of_model.items() if said is not None},
            "playouts": None if self.played_out is None else self.played_out.as_json(),
        }


def _decimal(value: float) -> float:
    return float(f"{value:.9g}")


def _decimals(rows: Tensor) -> list[list[float]]:
    return [[_decimal(value) for value in row] for row in rows.tolist()]


def played_out(
    session: Session,
    num_games: int,
    *,
    komi: float | None = None,
    is_wanted: Callable[[], bool] | None = None,
    ending: Ending | None = None,
) -> PlayedOut:
    """So many games from the session's position to their ends; the same each time.

    After two passes it is the game's end in their place, as ``final_score`` counts it.

    Args:
        session: the position, and the rules.
        num_games: at least 2.
        komi: by which they are scored; None for that of the session's rules.
        is_wanted: see ``play_out``.
        ending: how the game stands if it is over; None for what ``ending_of`` says.

    Raises:
        NotWanted: if ``is_wanted`` said no.
        SettingError: if ``num_games`` is not at least 2, of which an error can be told.
    """
    whole_number("playouts", num_games, 2)
    engine = session.engine
    if session.is_over:
        ending = ending_of(session, PLAYOUTS) if ending is None else ending
        return _ended(session, ending, num_games, session.rules.komi if komi is None else komi)
    if komi is not None:
        engine = copy(engine)  # of which the rest is shared and nothing changed
        engine.rules = replace(engine.rules, komi=komi)
    found = play_out(engine, num_games, is_wanted=is_wanted)
    counted = torch.stack([found.win_rates[0], found.scores[0], found.score_errors[0]])
    win, score, error = to_host(counted, "session").tolist()
    if session.turn == 1:  # counted for black
        win, score = 1 - win, -score
    ownership = to_host(found.ownership[0], "session")
    return PlayedOut(num_games, win, wilson(win, num_games), score, Z_95 * error, ownership)


def _ended(session: Session, ending: Ending, num_games: int, komi: float) -> PlayedOut:
    """The record of a game that is over."""
    score = ending.margin(komi) * (1 - 2 * session.turn)
    win = 0.5 if score == 0 else float(score > 0)
    return PlayedOut(num_games, win, (win, win), score, 0.0, ending.owners.double(), True)


def position_map(session: Session, num_playouts: int = 0, komi: float | None = None) -> PositionMap:
    """What the session's model expects of its position.

    Args:
        session: the position and the model.
        num_playouts: games that are played out from it beside; 0 for none.
        komi: by which these are scored; None for that of the session's rules.

    Raises:
        ValueError: if what the model says is not finite.
    """
    outlook = session.outlook()
    return PositionMap(
        session.stones,
        session.turn,
        session.moves if session.has_history else None,
        outlook.probabilities,
        outlook.legal,
        outlook.legal_mass,
        settled_of(session.engine),
        outlook.win,
        outlook.score,
        played_out(session, num_playouts, komi=komi) if num_playouts else None,
        None if session.has_history else session.moves,
        session.handicap,
        outlook.ownership,
    )
