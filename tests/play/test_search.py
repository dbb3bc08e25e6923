"""The search of many positions at once against the slow one, and what it must keep to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.randomness import MOVE, draw, mix, random_words
from tessera.play.evaluator import Evaluation
from tessera.play.gumbel import gumbel_noise
from tessera.play.search import GumbelSearch
from tests.go.oracle import Oracle
from tests.play.slow_search import Position, SlowSearch, grid_number

SIZE, KOMI, MAX_MOVES = 3, 0.5, 22
PASS = SIZE**2


def opinion(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, 10) from -3 to 3 and values (B,) from -1 to 1 of positions known by numbers."""
    words = mix(numbers.unsqueeze(1) * 16 + torch.arange(PASS + 2))
    shares = (words >> 40).double() / 2**23
    return (3 * shares[:, :-1]).float(), shares[:, -1].float()


class FixedEvaluator:
    """Random opinions of positions, always the same of the same one."""

    score_weight = 0.0

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        boards, numbers = engine.boards.flatten(2), engine.turn.clone()
        for point in range(PASS):
            numbers = 3 * numbers + boards[:, 0, point] + 2 * boards[:, 1, point]
        return Evaluation(*opinion(numbers))

    def places(self) -> object:
        return None


def slow_opinion(grid: tuple[str, ...], turn: int) -> tuple[list[float], float]:
    logits, value = opinion(torch.tensor([grid_number(grid, turn)]))
    return logits[0].tolist(), float(value)


def begun_games(rules: Rules) -> tuple[GPUGoEngine, list[Position]]:
    """Random games, of which game k has been going on for 2k plies, by both referees."""
    num_games = MAX_MOVES // 2 + 1
    engine = GPUGoEngine(num_games, "cpu", SIZE, rules)
    positions = [
        Position(Oracle(SIZE, rules.ko, rules.suicide), 0, engine.max_moves, rules.komi)
        for _ in range(num_games)
    ]
    numbers = torch.arange(num_games)
    for ply in range(MAX_MOVES):
        legal = engine.get_legal_mask()
        legal[:, -1] &= (numbers % 3 == 0) | ~legal[:, :-1].any(1)
        words = random_words(3, numbers, ply, MOVE)
        moves = draw(legal.float() / legal.sum(1, keepdim=True), legal, words)
        plays = (2 * numbers > ply) & ~engine.is_game_over()
        engine.play_batch(torch.where(plays, moves, -1))
        for game in plays.nonzero().flatten().tolist():
            positions[game] = positions[game].after(int(moves[game]))
    return engine, positions


@pytest.mark.parametrize(
    ("num_simulations", "num_considered", "value_scale", "max_visit"),
    [(1, 16, 1.0, 50.0), (16, 4, 0.1, 50.0), (24, 16, 0.02, 20.0), (35, 3, 0.05, 1.0)],
)
def test_the_search_is_the_slow_one(
    num_simulations: int, num_considered: int, value_scale: float, max_visit: float
) -> None:
    rules = Rules(komi=KOMI, max_moves=MAX_MOVES, suicide=num_simulations % 2 == 0)
    engine, positions = begun_games(rules)
    words = random_words(0, torch.arange(len(positions)), 0, MOVE)
    search = GumbelSearch(FixedEvaluator(), num_simulations, num_considered, value_scale, max_visit)
    found = search.run(engine, words)
    noise = gumbel_noise(words, PASS + 1)
    slow = SlowSearch(slow_opinion, num_considered, value_scale, max_visit)
    assert any(position.is_over() for position in positions)
    ko_refusals = 0
    for game, position in enumerate(positions):
        root = slow.run(position, num_simulations, noise[game].tolist())
        if not position.is_over():
            visits = [root.visits(move) for move in range(PASS + 1)]
            assert found.visits[game].tolist() == visits
        assert int(found.action[game]) == slow.best(root, noise[game].tolist())
        policy = slow.improved(root)
        weights = torch.tensor([policy.get(move, 0.0) for move in range(PASS + 1)])
        assert torch.allclose(found.action_weights[game], weights, atol=1e-4)
        assert float(found.value[game]) == pytest.approx(
            sum(root.values) / len(root.values), abs=1e-5
        )
        q = slow.completed(root, int(found.action[game]))
        assert float(found.q[game]) == pytest.approx(q, abs=1e-5)
        assert float(found.raw_value[game]) == pytest.approx(root.raw, abs=1e-6)
        ko_refusals += sum(node.position.oracle.ko_refusals for node in root.all_nodes())
    # What superko forbids in a tree is not seen on the board.
    assert ko_refusals >= num_simulations // 8
