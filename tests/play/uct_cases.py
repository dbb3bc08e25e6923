"""Trees of plain UCT, grown by the plain code and by the kernel; run as a program, interpreted."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.play.match import match_rules
from tessera.play.playout_sides import TreeSide
from tessera.play.uct_tree import UctTree
from tests.interpreting import quicken

GAMES, MOVES, WALKS, WAVES = 5, 11, 6, 9


def grown(in_kernels: bool, device: str = "cpu") -> list[Tensor]:
    """Where the walks of several waves went in trees of a made-up game, and what stands there.

    Whether a move is allowed, a game over, or won, follows from where a walk went.
    """
    generator = torch.Generator().manual_seed(0)
    allowed = torch.rand(GAMES, MOVES, generator=generator) < 0.6
    allowed[:, 0] = True
    tree = UctTree(allowed.to(device), WALKS * WAVES, in_kernels)
    found = []
    for wave in range(WAVES):
        ties = torch.rand(GAMES, MOVES, generator=generator).to(device)
        walks = tree.walk(WALKS, ties)
        deep = torch.arange(walks.moves.shape[2], device=device) < walks.lengths.unsqueeze(2)
        found += [walks.lengths, walks.moves * deep, walks.nodes * deep]
        leaves = walks.leaves()
        moves = torch.arange(MOVES, device=device)
        opened = (leaves.unsqueeze(2) * 7 + moves) % 3 > 0
        opened[:, :, 0] = True
        tree.open(leaves, opened, leaves % 5 != 4)
        tree.count(walks, (leaves * 5 + wave) % 3)
    found += [tree._visits, tree._points, tree._child, tree._size, tree.most_visited()]
    return [table.cpu() for table in found]


def chosen(backend: str, device: str = "cpu") -> Tensor:
    """What a side plays in four games of 3×3 after no, one, two and three moves."""
    engine = GPUGoEngine(4, device, 3, match_rules(komi=0.5), backend)
    for ply, moves in enumerate(([4, 0, 1], [4, 8], [4])):
        tokens = torch.full((4,), engine.vocabulary.pad_token, device=device)
        tokens[: len(moves)] = torch.tensor(moves, device=device)
        engine.play_batch(tokens)
        assert ply < 3
    everyone = torch.ones(4, dtype=torch.bool, device=device)
    words = torch.arange(4, device=device)
    return TreeSide(24).moves(engine, everyone, words).cpu()


if __name__ == "__main__":
    torch.set_num_threads(1)
    quicken()
    torch.save(grown(in_kernels=True), sys.argv[1])
