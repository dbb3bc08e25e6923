"""The engine against sgfmill, an independent referee: random games, stone by stone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import torch
from sgfmill.boards import Board

from tessera.go.engine import GPUGoEngine
from tessera.go.rules import Rules

# Size, games, plies a game at most, and how many plies that makes at least, with either rule.
BATCHES = [
    (2, 40, 30, 800),
    (3, 44, 40, 1600),
    (5, 48, 50, 2300),
    (9, 32, 90, 2700),
    (13, 12, 180, 2100),
    (19, 6, 420, 2350),
]
SUICIDE = [False, True]


@dataclass
class Referee:
    """One game on sgfmill's board, whose row 0 is the bottom row."""

    size: int
    board: Board = field(init=False)
    captured: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.board = Board(self.size)

    def stones(self) -> list[int]:
        """Numbers of black and white stones."""
        flat = [stone for row in self.board.board for stone in row]
        return [flat.count("b"), flat.count("w")]

    def play(self, token: int, colour: int) -> None:
        if token == self.size**2:
            return
        row, column = divmod(token, self.size)
        expected = self.stones()
        expected[colour] += 1
        self.board.play(self.size - 1 - row, column, "bw"[colour])
        left = self.stones()
        for side in (0, 1):
            self.captured[1 - side] += expected[side] - left[side]

    def grid(self) -> list[list[int]]:
        """Rows from the top: 0 empty, 1 black, 2 white."""
        code = {None: 0, "b": 1, "w": 2}
        return [[code[stone] for stone in row] for row in reversed(self.board.board)]


def choose(mask: torch.Tensor, generator: random.Random) -> list[int]:
    """A random legal point in each game; a pass now and then, and where nothing else is legal."""
    moves = []
    for legal in mask.tolist():
        points = [token for token, ok in enumerate(legal[:-1]) if ok]
        moves.append(generator.choice(points) if points and generator.random() > 0.01 else -1)
    return [move if move >= 0 else mask.shape[1] - 1 for move in moves]


@pytest.mark.parametrize("suicide", SUICIDE, ids=["no suicide", "suicide"])
@pytest.mark.parametrize(("size", "games", "plies", "at_least"), BATCHES)
def test_random_games_agree_in_stones_captures_and_area(
    size: int, games: int, plies: int, at_least: int, suicide: bool
) -> None:
    generator = random.Random(1000 * size + suicide)
    rules = Rules(ko="simple" if suicide else "positional", suicide=suicide, max_moves=plies)
    engine = GPUGoEngine(games, device="cpu", board_size=size, rules=rules)
    referees = [Referee(size) for _ in range(games)]
    played = 0
    for ply in range(plies):
        over = engine.is_game_over().tolist()
        if all(over):
            break
        turn = engine.turn.tolist()
        moves = choose(engine.get_legal_mask(), generator)
        engine.play_batch(torch.tensor(moves))
        for game, referee in enumerate(referees):
            if not over[game]:
                referee.play(moves[game], turn[game])
                played += 1
        board = engine.boards.int()
        stones = (board[:, 0] + 2 * board[:, 1]).tolist()
        captured = engine.captured.tolist()
        for game, referee in enumerate(referees):
            assert stones[game] == referee.grid(), f"ply {ply}, game {game}"
            assert captured[game] == referee.captured, f"ply {ply}, game {game}"
        if ply % 20 == 19:
            assert_same_score(engine, referees)
    assert_same_score(engine, referees)
    assert int(engine.captured.sum()) > 0
    assert played >= at_least


def assert_same_score(engine: GPUGoEngine, referees: list[Referee]) -> None:
    """Area score and ownership against sgfmill's area score less komi."""
    expected = [referee.board.area_score() - engine.rules.komi for referee in referees]
    assert engine.score().tolist() == expected
    areas = engine.ownership().sum((1, 2)).tolist()
    assert areas == [referee.board.area_score() for referee in referees]


def test_the_games_above_are_twenty_thousand_plies() -> None:
    assert sum(at_least for *_, at_least in BATCHES) * len(SUICIDE) >= 20_000
