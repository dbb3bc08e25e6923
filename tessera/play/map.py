"""The map of possibilities of one position: a probability for every legal move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.go.bitboard import unpack
from tessera.play.drawing import Scene
from tessera.play.session import Session
from tessera.transfers import to_host
from tessera.vocabulary import Vocabulary

COLOURS = ("black", "white")
LETTERS = "abcdefghij"  # of the likeliest moves


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
        return self.moves[-1] if self.moves else None

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
        ply = len(self.moves or [])
        maps = {"": self.probabilities}
        return Scene(self.stones, self.last_move, ply, maps, self.legal, self.settled)

    def title(self) -> str:
        """The position in a few words."""
        to_play = f"{self.to_play} to play"
        if self.moves is None:
            return f"{to_play}, set up"
        if not self.moves:
            return f"{to_play}, empty board"
        number = len(self.moves)
        return f"{to_play} after {number} move{'s' if number > 1 else ''}"

    def facts(self) -> list[str]:
        """What else is known, a sentence each."""
        facts = []
        if self.win is not None and self.score is not None:
            leader = self.turn if self.score >= 0 else 1 - self.turn
            score = f"{'BW'[leader]}+{abs(self.score):.1f}"
            facts.append(f"{self.to_play} wins {100 * self.win:.1f} %, score {score}")
        facts.append(f"given to what is no legal move: {100 * (1 - self.legal_mass):.1f} %")
        return facts

    def as_json(self) -> dict[str, Any]:
        """Everything by name; each probability has as many digits as a float32 needs."""
        vertex = self.vocabulary.vertex
        moves = None if self.moves is None else [vertex(move) for move in self.moves]
        board = ["".join(".XO"[stone] for stone in row) for row in self.stones.tolist()]
        settled: dict[str, list[str]] | None = None
        if self.settled is not None:
            owners = self.settled.flatten().tolist()
            settled = {
                colour: [vertex(point) for point, owner in enumerate(owners) if owner == sign]
                for colour, sign in zip(COLOURS, (1, -1), strict=True)
            }
        legal = self.legal.tolist()
        stones = self.stones.flatten().tolist()
        return {
            "board_size": self.board_size,
            "moves": moves,
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
            "win": None if self.win is None else _decimal(self.win),
            "score": None if self.score is None else _decimal(self.score),
        }


def _decimal(value: float) -> float:
    return float(f"{value:.9g}")


def position_map(session: Session) -> PositionMap:
    """What the session's model expects of its position.

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
    )


def settled_of(engine: GPUGoEngine) -> Tensor | None:
    """The settled points of an engine's first game, as ``PositionMap.settled`` has them."""
    if engine.rules.capture == "single":
        return None
    settled = engine.settled_points()
    owners = unpack(settled.black)[:1].int() - unpack(settled.white)[:1].int()
    return to_host(owners, "session")[0]
