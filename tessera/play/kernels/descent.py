"""From the roots of thousands of trees to their new leaves, each in a program of its own.

The plain form is ``Trees.descend``, whose loop takes every tree as far as the deepest might go.

Shapes: B trees, N nodes of each, A moves.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tessera.accelerator import current

_LEAST = 1.1754943508222875e-38  # the smallest normal float32, as ``gumbel.completed`` has it


@triton.jit
def descent_kernel(
    log_priors,
    children,
    visits,
    totals,
    raw,
    colours,
    root_moves,
    parents,
    moves,
    on_path,
    value_scale,
    max_visit,
    NODES: tl.constexpr,
    MOVES: tl.constexpr,
    LANES: tl.constexpr,
    LEAST: tl.constexpr,
):
    """Follow the improved policy of one tree until a move leads to no node, see ``gumbel``."""
    tree = tl.program_id(0).to(tl.int64)
    first = tree * NODES
    lane = tl.arange(0, LANES)
    is_move = lane < MOVES
    at = first * 0
    move = tl.load(root_moves + tree)
    tl.store(on_path + first, 1)
    child = tl.load(children + first * MOVES + move).to(tl.int64)
    while child > 0:
        at = child
        tl.store(on_path + first + at, 1)
        row = (first + at) * MOVES + lane
        log_prior = tl.load(log_priors + row, mask=is_move, other=float("-inf"))
        behind = tl.load(children + row, mask=is_move, other=0).to(tl.int64)
        tried = behind > 0
        count = tl.load(visits + first + behind, mask=tried, other=0.0)
        total = tl.load(totals + first + behind, mask=tried, other=0.0)
        q = total / tl.maximum(count, 1.0) * tl.load(colours + first + at)
        weight = tl.where(tried, tl.maximum(tl.exp(log_prior), LEAST), 0.0)
        all_visits = tl.sum(count, 0)
        mean = tl.sum(weight * tl.where(tried, q, 0.0), 0) / tl.maximum(tl.sum(weight, 0), LEAST)
        mixed = (tl.load(raw + first + at) + all_visits * mean) / (1 + all_visits)
        scale = (max_visit + tl.max(count, 0)) * value_scale
        score = log_prior + scale * tl.where(tried, q, mixed)
        power = tl.exp(score - tl.max(score, 0))
        wanting = power / tl.sum(power, 0) - count / (1 + all_visits)
        wanting = tl.where(log_prior == float("-inf"), float("-inf"), wanting)
        move = tl.argmax(wanting, 0).to(tl.int64)
        child = tl.load(children + (first + at) * MOVES + move).to(tl.int64)
    tl.store(parents + tree, at)
    tl.store(moves + tree, move)


def descend(
    tables: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    root_moves: Tensor,
    value_scale: float,
    max_visit: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Parent (B,) and move (B,) of each tree's new node, and the nodes on the way (B, N) bool.

    The choices are those of the plain form but where two moves are equal to the last bits.

    Args:
        tables: log-priors (B, N, A), children (B, N, A) int16, visits, totals, raw values and
            colours (B, N), as ``Trees`` keeps them.
        root_moves: (B,) int64, the moves at the roots.
        value_scale, max_visit: see ``Sigma``.
    """
    trees, nodes, num_moves = tables[0].shape
    parents, moves = (root_moves.new_empty(trees) for _ in range(2))
    on_path = tables[2].new_zeros(trees, nodes, dtype=torch.bool)
    lanes = triton.next_power_of_2(num_moves)
    with current(root_moves.device):
        descent_kernel[(trees,)](
            *(*tables, root_moves, parents, moves, on_path, value_scale, max_visit),
            NODES=nodes,
            MOVES=num_moves,
            LANES=lanes,
            LEAST=_LEAST,
            num_warps=1 if lanes <= 128 else 4,
        )
    return parents, moves, on_path
