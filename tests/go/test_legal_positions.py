"""The numbers of legal positions, counted through the engine's own liberty code.

Source: John Tromp and Gunnar Farnebäck, "Combinatorics of Go", table of L(m, n).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.go.bitboard import without_liberties


def coloured_rows(size: int) -> tuple[Tensor, Tensor]:
    """Black's and white's bits of all 3^n ways to colour a row, each (3^n,) int32."""
    digits = torch.arange(3**size).unsqueeze(1) // 3 ** torch.arange(size) % 3
    weights = 2 ** torch.arange(size)
    return tuple(((digits == colour) * weights).sum(1).int() for colour in (1, 2))


def num_legal_positions(size: int) -> int:
    """Positions in which every chain has a liberty, counted chunk by chunk.

    A chunk keeps the top row and varies the others. Exchanging the colours keeps a position legal,
    so of two top rows that are each other's exchange only one is looked at.
    """
    row_black, row_white = coloured_rows(size)
    patterns = len(row_black)
    below = torch.cartesian_prod(*[torch.arange(patterns)] * (size - 1)).view(-1, size - 1).t()
    total = 0
    for top in range(patterns):
        if row_black[top] < row_white[top]:
            continue
        rows = torch.cat([torch.full_like(below[:1], top), below])
        black, white = row_black[rows], row_white[rows]
        empty = ~(black | white) & ((1 << size) - 1)
        dead = without_liberties(black, empty) | without_liberties(white, empty)
        legal = int((dead == 0).all(0).sum())
        total += legal if row_black[top] == row_white[top] else 2 * legal
    return total


@pytest.mark.parametrize(("size", "legal"), [(2, 57), (3, 12_675), (4, 24_318_165)])
def test_legal_positions_are_as_many_as_were_counted(size: int, legal: int) -> None:
    assert num_legal_positions(size) == legal
