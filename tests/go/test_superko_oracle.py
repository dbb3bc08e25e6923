"""The legal mask against a slow oracle, on small boards where superko is an everyday matter."""

from __future__ import annotations

import random

import pytest
import torch

from tessera.go.engine import GPUGoEngine
from tessera.go.rules import Rules
from tests.go.oracle import EMPTY, Grid, Oracle

# Board size, games at once, plies; one position of each game is compared at every ply.
SIZES = [(2, 24, 40), (3, 32, 44), (4, 16, 44), (5, 8, 36)]
POSITIONS = sum(games * plies for _, games, plies in SIZES)
# Moves refused by ko alone that a run must meet, or it has not tested much.
AT_LEAST = {
    ("simple", False): 30,
    ("simple", True): 20,
    ("positional", False): 180,
    ("positional", True): 1200,
    ("situational", False): 120,
    ("situational", True): 180,
}


class Games:
    """A batch on the engine and an oracle for each of its games, moved and compared together."""

    def __init__(self, size: int, games: int, rules: Rules) -> None:
        self.size, self.rules = size, rules
        self.generator = random.Random(size)
        self.engine = GPUGoEngine(games, device="cpu", board_size=size, rules=rules)
        self.oracles = [self.oracle() for _ in range(games)]
        self.vacated: list[list[int]] = [[] for _ in range(games)]
        self.refusals = 0

    def oracle(self, grid: Grid | None = None, turn: int = 0) -> Oracle:
        return Oracle(self.size, self.rules.ko, self.rules.suicide, self.rules.capture, grid, turn)

    def compare(self, where: str) -> list[list[bool]]:
        """Asserts that engine and oracles agree; returns what is legal in each game."""
        engine, oracles = self.engine, self.oracles
        boards = engine.boards.flatten(2).int()
        grids = (boards[:, 0] + 2 * boards[:, 1]).tolist()
        legal = [oracle.legal() for oracle in oracles]
        assert [tuple(".XO"[s] for s in grid) for grid in grids] == [o.grid for o in oracles], where
        assert engine.get_legal_mask().tolist() == legal, where
        assert engine.is_game_over().tolist() == [oracle.is_over() for oracle in oracles], where
        assert engine.captured.tolist() == [oracle.captured for oracle in oracles], where
        komi = self.rules.komi
        assert engine.score().tolist() == [oracle.area() - komi for oracle in oracles], where
        return legal

    def choose(self, legal: list[bool], oracle: Oracle, vacated: list[int]) -> int:
        """A capture, a point where stones were taken off, any legal point; sometimes a pass."""
        points = [token for token, ok in enumerate(legal[:-1]) if ok]
        if not points or self.generator.random() < 0.03:
            return self.size**2
        theirs = "OX"[oracle.turn]
        captures = [
            point
            for point in points
            if oracle.after(point)[0].count(theirs) < oracle.grid.count(theirs)
        ]
        fought_over = [point for point in vacated[-6:] if legal[point]]
        kind = self.generator.choice([captures, captures, fought_over, points])
        return self.generator.choice(kind or points)

    def play(self, legal: list[list[bool]]) -> None:
        """One move in every game, the same for the engine and the oracles."""
        games = zip(legal, self.oracles, self.vacated, strict=True)
        moves = [self.choose(*game) for game in games]
        self.engine.play_batch(torch.tensor(moves))
        for oracle, vacated, move in zip(self.oracles, self.vacated, moves, strict=True):
            before = oracle.grid
            oracle.play(move)
            pairs = enumerate(zip(before, oracle.grid, strict=True))
            vacated += [point for point, (old, new) in pairs if new == EMPTY != old]

    def restart(self, chosen: list[bool], from_position: bool) -> None:
        """New games where chosen, from the empty board or from a crowded random position."""
        grids = [self.crowded_grid() if from_position else None for _ in chosen]
        turns = [self.generator.randrange(2) if from_position else 0 for _ in chosen]
        if from_position:
            dense = [[[stone == colour for stone in grid] for colour in "XO"] for grid in grids]
            boards = torch.tensor(dense).view(len(chosen), 2, self.size, self.size)
            self.engine.set_position(boards, torch.tensor(turns), torch.tensor(chosen))
        else:
            self.engine.reset(torch.tensor(chosen))
        for game in [game for game, new in enumerate(chosen) if new]:
            self.refusals += self.oracles[game].ko_refusals
            self.oracles[game] = self.oracle(grids[game], turns[game])
            self.vacated[game] = []

    def crowded_grid(self) -> Grid:
        """A legal position with few empty points."""
        grid = tuple(self.generator.choice("XXXOOO.") for _ in range(self.size**2))
        oracle = self.oracle()
        return oracle.cleared(oracle.cleared(grid, "X"), "O")


def refusals_by_ko(size: int, games: int, plies: int, rules: Rules) -> int:
    """Compares random games with oracles at every ply; returns how often ko refused a point."""
    batch = Games(size, games, rules)
    for ply in range(plies):
        legal = batch.compare(f"size {size}, ply {ply}")
        batch.play(legal)
        # A finished game is compared at least once before it makes room for a new one.
        over = [o.is_over() and game % 2 == ply % 2 for game, o in enumerate(batch.oracles)]
        batch.restart(over, from_position=ply % 4 > 1)
    batch.restart([True] * games, from_position=False)
    return batch.refusals


@pytest.mark.parametrize(("ko", "suicide"), AT_LEAST)
def test_mask_equals_the_oracle_where_ko_is_frequent(ko: str, suicide: bool) -> None:
    rules = Rules(ko=ko, suicide=suicide, max_moves=10_000)
    refusals = [refusals_by_ko(*batch, rules) for batch in SIZES]
    assert sum(refusals) >= AT_LEAST[ko, suicide], refusals


def test_five_thousand_positions_are_compared_for_each_ko_rule() -> None:
    assert 2 * POSITIONS >= 5_000


def test_mask_equals_the_oracle_where_only_single_stones_are_captured() -> None:
    rules = Rules(ko="simple", capture="single", max_moves=10_000)
    assert sum(refusals_by_ko(*batch, rules) for batch in SIZES) >= 1
