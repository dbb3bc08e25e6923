"""Descents of the plain form and of the kernel in trees that a search has grown."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.branching import copy_games
from tessera.go.randomness import random_words
from tessera.play.evaluator import Evaluation
from tessera.play.gumbel import Sigma, gumbel_noise, next_at_root, visits_in_turn
from tessera.play.search import GumbelSearch
from tessera.play.search_trees import Trees
from tests.interpreting import quicken

GAMES, SIMULATIONS = 48, 40


class Hashed:
    """Logits and values that are a hash of the position."""

    score_weight = 0.0

    def places(self) -> object:
        return None

    def evaluate(self, engine: GPUGoEngine) -> Evaluation:
        rows = engine.position.own.long() * 31 + engine.position.opponent.long()
        keys = (rows * torch.arange(3, 3 + len(rows)).unsqueeze(1) ** 5).sum(0)
        columns = torch.arange(engine.vocabulary.pass_token + 2)
        words = random_words(3, keys.unsqueeze(1).expand(-1, len(columns)), columns, 0)
        shares = (words >> 40 & 0xFFFF).float() / 0xFFFF
        return Evaluation(3 * shares[:, :-1], 1.6 * shares[:, -1] - 0.8)


def grown() -> tuple[Trees, Tensor]:
    """Trees on different positions, and the most visited move at each root."""
    engine = GPUGoEngine(GAMES, "cpu", 4, backend="torch")
    for ply in range(6):
        legal = engine.get_legal_mask()[:, :-1]
        words = random_words(1, torch.arange(GAMES), torch.tensor(ply), 0)
        ranks = random_words(2, words.unsqueeze(1).expand(-1, 16), torch.arange(16), 0)
        engine.play_batch(ranks.masked_fill(~legal, torch.iinfo(torch.int64).min).argmax(1))
    sigma = Sigma(1.0, 50.0)
    trees = Trees(engine, SIMULATIONS, Hashed(), sigma, "free", 0)
    everyone = torch.arange(GAMES)
    copy_games(engine, everyone, everyone, trees.leaves)
    trees.begin()
    noise = gumbel_noise(everyone, 17)
    for simulation, wanted in enumerate(visits_in_turn(3, SIMULATIONS)):
        moves = next_at_root(trees.at_root(), sigma, noise, torch.full((GAMES,), float(wanted)))
        trees.grow(simulation + 1, moves)
    return trees, trees.at_root().visits.argmax(1)


def searched(backend: str) -> tuple[Tensor, ...]:
    """A small search of a position, engine and trees by this backend."""
    engine = GPUGoEngine(1, "cpu", 3, Rules(komi=0.5, max_moves=12), backend)
    for move in (4, 1, 3):
        engine.play_batch(torch.tensor([move]))
    return GumbelSearch(Hashed(), 5, 2).run(engine, torch.arange(1))


if __name__ == "__main__":
    from tessera.play.kernels.descent import descend

    quicken()
    trees, moves = grown()
    found = descend(trees.tables(), moves, *trees.sigma)
    plain = trees.descend(trees.num_nodes, moves)
    torch.save((plain, found, tuple(searched("triton"))), sys.argv[1])
