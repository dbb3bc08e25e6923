"""The search against exact solutions: small boards, and endgames that brute force can solve."""

from __future__ import annotations

import functools

import pytest
import torch

from tessera.go import GPUGoEngine, Rules
from tessera.go.branching import copies
from tessera.go.randomness import MOVE, draw, random_words
from tessera.play.evaluator import Evaluation, PlayoutEvaluator
from tessera.play.search import GumbelSearch
from tests.go.oracle import Oracle
from tests.play.slow_search import Position

# Board size, plies of the whole game, and those after which it is looked at.
SMALL = {"2x2": (2, 8, (0, 1, 2, 3, 4, 5)), "3x3 endgames": (3, 14, (9, 10, 11))}
DRAWN = 12  # games
KOMI = 0.5


@functools.cache
def result(moves: tuple[int, ...], size: int, max_moves: int) -> float:
    """1 if who is to move after these moves wins with best play, else -1."""
    position = replayed(moves, size, max_moves)
    if position.is_over():
        return position.result()
    for move in position.legal():
        if result((*moves, move), size, max_moves) < 0:
            return 1.0
    return -1.0


@functools.cache
def replayed(moves: tuple[int, ...], size: int, max_moves: int) -> Position:
    if not moves:
        return Position(Oracle(size, "positional", False), 0, max_moves, KOMI)
    return replayed(moves[:-1], size, max_moves).after(moves[-1])


def moves_of(engine: GPUGoEngine, game: int) -> tuple[int, ...]:
    return tuple(engine.history[game, : int(engine.move_number[game])].tolist())


class Judge:
    """Every move is equally likely; the value is the solution, or 0."""

    score_weight = 0.0

    def __init__(self, knows: bool) -> None:
        self.knows = knows

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        values = torch.zeros(engine.batch_size)
        if self.knows:
            kind = engine.board_size, engine.max_moves
            for game in range(engine.batch_size):
                values[game] = result(moves_of(engine, game), *kind)
        return Evaluation(torch.zeros(engine.batch_size, engine.board_size**2 + 1), values)

    def places(self) -> object:
        return None


@functools.cache
def undecided(name: str) -> tuple[GPUGoEngine, list[set[int]]]:
    """Positions in which some moves win and some lose, and those that win."""
    size, max_moves, plies = SMALL[name]
    engine = GPUGoEngine(DRAWN * len(plies), "cpu", size, Rules(komi=KOMI, max_moves=max_moves))
    numbers = torch.arange(engine.batch_size)
    for ply in range(max(plies)):
        legal = engine.get_legal_mask()
        legal[:, -1] = ~legal[:, :-1].any(1)
        words = random_words(1, numbers, ply, MOVE)
        moves = draw(legal.float() / legal.sum(1, keepdim=True), legal, words)
        engine.play_batch(torch.where(torch.tensor(plies)[numbers % len(plies)] > ply, moves, -1))
    chosen, winning = [], []
    for game in range(engine.batch_size):
        played = moves_of(engine, game)
        wins = {
            move
            for move in replayed(played, size, max_moves).legal()
            if result((*played, move), size, max_moves) < 0
        }
        if wins and len(wins) < len(replayed(played, size, max_moves).legal()):
            chosen.append(game)
            winning.append(wins)
    assert len(chosen) >= DRAWN
    return copies(engine, torch.tensor(chosen)), winning


@pytest.mark.parametrize("name", SMALL)
def test_with_true_values_it_plays_a_move_that_wins(name: str) -> None:
    engine, winning = undecided(name)
    search = GumbelSearch(Judge(knows=True), num_simulations=16, noise=0.0)
    found = search.run(engine, torch.arange(engine.batch_size))
    for action, wins in zip(found.action.tolist(), winning, strict=True):
        assert action in wins
    # Who learns from it learns the winning moves.
    masses = [float(w[list(m)].sum()) for w, m in zip(found.action_weights, winning, strict=True)]
    assert min(masses) > 0.99


def check_reading(name: str, num_simulations: int, num_games: int, least: float) -> None:
    """Without knowledge, by the ends of the games alone, most moves that are played win."""
    engine, winning = undecided(name)
    winning = winning[:num_games]
    engine = copies(engine, torch.arange(len(winning)))
    search = GumbelSearch(Judge(knows=False), num_simulations=num_simulations, noise=0.0)
    found = search.run(engine, torch.arange(engine.batch_size))
    hits = [a in wins for a, wins in zip(found.action.tolist(), winning, strict=True)]
    assert sum(hits) >= least * len(hits), sum(hits) / len(hits)
    # The same priors without a search.
    nobody = GumbelSearch(Judge(knows=False), num_simulations=0, noise=0.0)
    blind = nobody.run(engine, torch.arange(engine.batch_size))
    guessed = [a in wins for a, wins in zip(blind.action.tolist(), winning, strict=True)]
    assert sum(guessed) < sum(hits) - len(hits) / 5


@pytest.mark.parametrize("name", SMALL)
def test_without_any_knowledge_it_reads_to_the_end(name: str) -> None:
    check_reading(name, 150, 14, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_reads_everything_that_it_has_time_for(name: str) -> None:
    check_reading(name, 1500, 1000, 0.98)


def test_even_two_simulations_improve_the_policy() -> None:
    # The theorem: by exact values the drawn moves are better in the mean than the prior's.
    engine, winning = undecided("2x2")
    num_games = 512
    for game in range(0, engine.batch_size, 9):
        same = copies(engine, torch.full((num_games,), game))
        search = GumbelSearch(Judge(knows=True), num_simulations=2, num_considered=2)
        found = search.run(same, random_words(5, torch.arange(num_games), 0, MOVE))
        rate = sum(action in winning[game] for action in found.action.tolist()) / num_games
        legal = int(engine.get_legal_mask()[game].sum())
        by_prior = len(winning[game]) / legal
        # Of two moves without replacement one at least wins.
        expected = 1 - (1 - by_prior) * (legal - len(winning[game]) - 1) / max(1, legal - 1)
        assert rate == pytest.approx(expected, abs=0.09)


def test_three_by_three_begins_in_the_centre() -> None:
    """Solved long ago: only the centre wins all nine points, and so beats this komi."""
    engine = GPUGoEngine(1, "cpu", 3, Rules(komi=6.5))
    evaluator = PlayoutEvaluator(16, score_weight=0.5)
    found = GumbelSearch(evaluator, num_simulations=16).run(engine, torch.arange(1))
    assert found.action.tolist() == [4]
