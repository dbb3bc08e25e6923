"""Zobrist keys: a position's hash is the sum modulo 2^64 of one random key for each stone.

A sum instead of the usual exclusive or, because torch can reduce by it; it is as good a hash and
undone as easily.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go.bitboard import unpack
from tessera.go.randomness import ZOBRIST, random_words


def zobrist_keys(num_points: int, device: torch.device) -> Tensor:
    """Keys of black stones, keys of white stones and, in the last column, of the player to move.

    Returns:
        (2, num_points + 1) int64, the same on every device.
    """
    numbers = torch.arange(2 * (num_points + 1), device=device)
    return random_words(0, numbers, num_points, ZOBRIST).view(2, num_points + 1)


def tokens_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Column and token of every point of the sets (n, K); two (M,) int64, columns ascending."""
    columns, tokens = unpack(rows).flatten(1).nonzero().unbind(1)
    return columns, tokens


def zobrist_sum(rows: Tensor, keys: Tensor, colours: Tensor) -> Tensor:
    """The sum of the keys of each board's points.

    Args:
        rows: (n, K) row bitboards, stones of one colour in each column.
        keys: from ``zobrist_keys``.
        colours: (K,) int64, 0 black, 1 white.

    Returns:
        (K,) int64.
    """
    columns, tokens = tokens_of(rows)
    return torch.zeros_like(colours).index_add_(0, columns, keys[colours[columns], tokens])
