"""Walks of plain UCT from the roots of many trees, each tree in a program of its own.

The plain form is ``UctTree.walk``, which takes every tree as far as the deepest goes.

Shapes: K trees, S nodes of each, A moves, W walks, D the most moves of a walk.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current
from tessera.play.uct_tree import Walks


@triton.jit
def walk_kernel(
    child,
    visits,
    points,
    is_open,
    sizes,
    bonus,
    ties,
    moves,
    nodes,
    lengths,
    num_walks,
    NODES: tl.constexpr,
    MOVES: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Walk one tree ``num_walks`` times; what a walk writes, the next one reads."""
    tree = tl.program_id(0).to(tl.int64)
    first = tree * NODES
    lane = tl.arange(0, LANES)
    is_move = lane < MOVES
    untried = 1e9 * (1 + tl.load(ties + tree * MOVES + lane, mask=is_move, other=0.0))
    size = tl.load(sizes + tree)
    for nth in range(num_walks):
        tl.store(visits + first, tl.load(visits + first) + 1)
        tl.debug_barrier()  # what a lane wrote, others read
        at = first * 0
        depth = first * 0
        goes = tl.load(is_open + first).to(tl.int1)
        out = (tree * num_walks + nth) * DEPTH
        while goes & (depth < DEPTH):
            row = child + (first + at) * MOVES
            children = tl.load(row + lane, mask=is_move, other=-2).to(tl.int64)
            is_there = children >= 0
            behind = first + tl.where(is_there, children, 0)
            count = tl.load(visits + behind, mask=is_there, other=0)
            won = tl.load(points + behind, mask=is_there, other=0)
            counts = tl.maximum(count, 1).to(tl.float32)
            mine = tl.load(bonus + tl.load(visits + first + at))
            worth = tl.div_rn(won.to(tl.float32), 2 * counts)
            worth += tl.sqrt_rn(tl.div_rn(tl.zeros_like(counts) + mine, counts))
            worth = tl.where(count == 0, untried, worth)
            worth = tl.where(children == -2, float("-inf"), worth)
            move = tl.argmax(worth, 0).to(tl.int64)
            found = tl.load(row + move).to(tl.int64)
            is_new = found == -1
            found = tl.where(is_new, size, found)
            size += is_new.to(tl.int64)
            tl.store(row + move, found.to(tl.int32))
            at = found
            tl.store(visits + first + at, tl.load(visits + first + at) + 1)
            tl.store(moves + out + depth, move)
            tl.store(nodes + out + depth, at)
            depth += 1
            goes = tl.load(is_open + first + at).to(tl.int1)
            tl.debug_barrier()
        tl.store(lengths + tree * num_walks + nth, depth)
    tl.store(sizes + tree, size)


def walk(
    tables: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    bonus: Tensor,
    ties: Tensor,
    walks: Walks,
) -> None:
    """Walk every tree as often as ``walks`` has room for, and write down where.

    Args:
        tables: children (K, S, A) int32, visits and points (K, S) int64, which are open (K, S)
            bool, and how many there are (K,) int64, as ``UctTree`` keeps them; changed in place.
        bonus: (S + 1,) float32, by visits of a node the square of what UCB1 adds to its children's
            rates, times their visits.
        ties: see ``UctTree.walk``.
        walks: written in place.
    """
    trees, nodes, num_moves = tables[0].shape
    with current(bonus.device):
        walk_kernel[(trees,)](
            *(*tables, bonus, ties, *walks, walks.moves.shape[1]),
            NODES=nodes,
            MOVES=num_moves,
            LANES=triton.next_power_of_2(num_moves),
            DEPTH=walks.moves.shape[2],
            num_warps=1,
        )
