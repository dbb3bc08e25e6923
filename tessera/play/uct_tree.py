"""The trees of plain UCT, of many games side by side: walks to new leaves, and what came of them.

Shapes: K games, N nodes beside the root, A moves, W walks at once, D the most moves of a walk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EXPLORATION = 0.7  # of UCB1's term; wins count 1
MOST_DEPTH = 96
UNTRIED, FORBIDDEN = -1, -2  # in place of a child


class Walks(NamedTuple):
    """Ways from the roots to leaves.

    Attributes:
        moves: (K, W, D) int64; after a walk's end what is there means nothing.
        nodes: (K, W, D) int64, where each move led.
        lengths: (K, W) int64, moves of each walk.
    """

    moves: Tensor
    nodes: Tensor
    lengths: Tensor

    def leaves(self) -> Tensor:
        """The node (K, W) at the end of each walk; the root where it had none to go."""
        last = (self.lengths - 1).clamp(min=0).unsqueeze(2)
        return self.nodes.gather(2, last).squeeze(2).where(self.lengths > 0, 0)


class UctTree:
    """K trees of the same size.

    Args:
        allowed: (K, A), the moves at the roots.
        num_playouts: N, nodes beside the root.
        in_kernels: whether Triton's kernel walks; it goes where the plain form goes, to the bit.
    """

    def __init__(self, allowed: Tensor, num_playouts: int, in_kernels: bool = False) -> None:
        games, moves = allowed.shape
        device = allowed.device
        self._in_kernels = in_kernels
        self._games = torch.arange(games, device=device)
        size = num_playouts + 1
        self._child = torch.full((games, size, moves), FORBIDDEN, dtype=torch.int32, device=device)
        self._visits = torch.zeros(games, size, dtype=torch.int64, device=device)
        # Twice the wins of the player whose move led there.
        self._points = torch.zeros_like(self._visits)
        self._is_open = torch.zeros(games, size, dtype=torch.bool, device=device)
        self._size = torch.ones(games, dtype=torch.int64, device=device)
        # From one logarithm on all devices; an unvisited node is as one that was visited once.
        logs = torch.arange(size + 1).clamp(min=1).float().log()
        self._bonus = (EXPLORATION**2 * logs).to(device)
        roots = torch.zeros(games, 1, dtype=torch.int64, device=device)
        self.open(roots, allowed.unsqueeze(1), torch.ones_like(roots).bool())

    def open(self, nodes: Tensor, allowed: Tensor, is_going: Tensor) -> None:
        """Let walks go on from these nodes by the allowed moves.

        Args:
            nodes: (K, W) int64; one that is there several times is the same position each time.
            allowed: (K, W, A) bool.
            is_going: (K, W) bool, False where the game is over; there walks end.
        """
        games = self._games.unsqueeze(1)
        is_open = self._is_open[games, nodes]
        before = self._child[games, nodes]
        is_untried = (is_going & ~is_open).unsqueeze(2) & allowed
        self._child[games, nodes] = before.masked_fill(is_untried, UNTRIED)
        self._is_open[games, nodes] = is_open | is_going

    def walk(self, count: int, ties: Tensor) -> Walks:
        """Go to a leaf, ``count`` times in every tree, counting the visits; new leaves are made.

        Every move is tried once before any is tried again, then UCB1 decides. A walk counts as
        visited, and not yet won, as soon as it is walked.

        Args:
            count: W.
            ties: (K, A) float32, 0 to 1, which of several moves that nobody tried is first.
        """
        shape = (len(self._games), count, MOST_DEPTH)
        walks = Walks(
            ties.new_zeros(shape, dtype=torch.int64),
            ties.new_zeros(shape, dtype=torch.int64),
            ties.new_zeros(shape[:2], dtype=torch.int64),
        )
        if self._in_kernels:
            from tessera.play.kernels.walk import walk

            tables = (self._child, self._visits, self._points, self._is_open, self._size)
            walk(tables, self._bonus, ties, walks)
        else:
            for nth in range(count):
                self._walk(ties, Walks(*(each[:, nth] for each in walks)))
        return walks

    def _walk(self, ties: Tensor, walk: Walks) -> None:
        games, node = self._games, torch.zeros_like(self._games)
        self._visits[:, 0] += 1
        goes = self._is_open[:, 0]
        for depth in range(MOST_DEPTH):
            if not bool(goes.any()):
                break
            children = self._child[games, node].long()
            at = children.clamp(min=0)
            visits = self._visits.gather(1, at).masked_fill(children < 0, 0)
            counts = visits.clamp(min=1).float()
            # A quotient and a root, so that no product can be rounded together with a sum.
            worth = self._points.gather(1, at).float() / (2 * counts)
            worth = worth + (self._bonus[self._visits[games, node]].unsqueeze(1) / counts).sqrt()
            worth = torch.where(visits == 0, 1e9 * (1 + ties), worth)
            move = worth.masked_fill(children == FORBIDDEN, -torch.inf).argmax(1)
            child = children.gather(1, move.unsqueeze(1)).squeeze(1)
            is_new = goes & (child == UNTRIED)
            child = torch.where(is_new, self._size, child)
            self._size += is_new
            before = self._child[games, node, move]
            self._child[games, node, move] = torch.where(is_new, child.int(), before)
            node = torch.where(goes, child, node)
            self._visits[games, node] += goes
            walk.moves[:, depth], walk.nodes[:, depth] = move, node
            walk.lengths.add_(goes)
            goes = goes & self._is_open[games, node]

    def count(self, walks: Walks, won: Tensor) -> None:
        """Add how the games ended behind the leaves: (K, W) twice the wins of who is to move."""
        plies = torch.arange(walks.moves.shape[2], device=won.device)
        points = torch.where(plies % 2 == 0, won.unsqueeze(2), 2 - won.unsqueeze(2))
        points = points * (plies < walks.lengths.unsqueeze(2))
        self._points.scatter_add_(1, walks.nodes.flatten(1), points.flatten(1))

    def most_visited(self) -> Tensor:
        """The move (K,) at each root that was walked most; of several the one that won most."""
        children = self._child[:, 0].long()
        at = children.clamp(min=0)
        visits = self._visits.gather(1, at) * (2 * self._visits.shape[1] + 1)
        worth = visits + self._points.gather(1, at)
        worth = worth.masked_fill(children == UNTRIED, -1)
        return worth.masked_fill(children == FORBIDDEN, -2).argmax(1)
