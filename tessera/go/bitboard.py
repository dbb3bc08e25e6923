"""Row bitboards: sets of points of many boards, and what can be done to all of them at once.

Shapes: B boards (or other columns), n rows. A set of points is an int32 tensor (n, B): bit c of
element [r, b] is the point in row r, column c of board b. Rows come first so that moving a board up
or down is a copy of contiguous memory, whatever the number of boards.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from tessera.go.contract import whole_numbers

_FLOOD_STEPS = 3  # steps between two looks at which boards still grow; each look costs two steps


def row_mask(board_size: int) -> int:
    """A row with every column set, 2^n - 1."""
    return (1 << board_size) - 1


def pack(points: Tensor) -> Tensor:
    """Row bitboards (n, B) of dense boards (B, n, n); what is not 0 or False is in the set.

    Raises:
        ValueError: if ``points`` is no such tensor of bool or whole numbers.
    """
    size = points.shape[-1] if isinstance(points, Tensor) and points.dim() else None
    whole_numbers("points", points, (None, size, size), or_bool=True)
    columns = torch.arange(points.shape[-1], device=points.device, dtype=torch.int32)
    bits = points.ne(0).to(torch.int32) << columns
    return bits.sum(-1, dtype=torch.int32).t().contiguous()


def unpack(rows: Tensor) -> Tensor:
    """Dense boards (B, n, n) of bool from row bitboards (n, B)."""
    size = rows.shape[0]
    bits = torch.tensor([1 << c for c in range(size)], device=rows.device, dtype=torch.int32)
    return (rows.t().unsqueeze(-1) & bits).ne(0)


def as_moves(rows: Tensor) -> Tensor:
    """(B, n² + 1) bool from row bitboards (n, B): their points, and pass, which is True."""
    # No tensor of a list, which would wait for a GPU.
    columns = torch.arange(rows.shape[0], device=rows.device, dtype=torch.int32)
    points = (rows.t().unsqueeze(-1) >> columns & 1).bool().flatten(1)
    return torch.nn.functional.pad(points, (0, 1), value=True)


def select_games(rows: Tensor, games: Tensor) -> Tensor:
    """The sets (n, K) of the games ``games`` (K,) of B, in the memory layout of ``rows`` (n, B)."""
    by_game = rows.t()
    return by_game[games].t() if by_game.is_contiguous() else rows[:, games]


def single(row: Tensor, bit: Tensor, board_size: int) -> Tensor:
    """Boards (n, B) with one point each: ``bit`` (B,) int32 in row ``row`` (B,) int64."""
    board = torch.zeros(board_size, row.shape[0], dtype=torch.int32, device=row.device)
    return board.scatter_(0, row.unsqueeze(0), bit.unsqueeze(0))


def row_and_bit(tokens: Tensor, board_size: int) -> tuple[Tensor, Tensor]:
    """Row (B,) int64 and bit (B,) int32 of tokens (B,) int64; row and bit 0 of what is no point."""
    is_point = (tokens >= 0) & (tokens < board_size**2)
    inside = torch.where(is_point, tokens, 0)
    return inside // board_size, is_point.to(torch.int32) << (inside % board_size).to(torch.int32)


def points(tokens: Tensor, board_size: int) -> Tensor:
    """The point of each token (B,) int64 as a set (n, B); the empty set for what is no point."""
    return single(*row_and_bit(tokens, board_size), board_size)


def neighbours(points: Tensor) -> Tensor:
    """The points next to a point of the set, along rows and columns; (n, B).

    Bits beyond the board's last column may come out set: the caller intersects with a set of the
    board, which every use does anyway.
    """
    result = points << 1
    result |= points >> 1
    result[1:] |= points[:-1]
    result[:-1] |= points[1:]
    return result


def flood(seed: Tensor, points: Tensor) -> Tensor:
    """The connected parts of ``points`` that ``seed`` touches; both (n, B).

    Boards whose part no longer grows leave the loop, so the cost follows the work that is left.
    """
    grown = result = seed & points
    columns: Tensor | None = None  # the boards that may still grow; None stands for all
    while True:
        start = grown
        for _ in range(_FLOOD_STEPS):
            grown = (neighbours(grown) & points).bitwise_or_(grown)
        result = grown if columns is None else result.index_copy_(1, columns, grown)
        growing = (grown != start).any(0).nonzero().squeeze(1)
        if growing.numel() == 0:
            return result
        if 2 * growing.numel() <= grown.shape[1]:
            columns = growing if columns is None else columns[growing]
            grown, points = grown[:, growing], points[:, growing]


def without_liberties(stones: Tensor, empty: Tensor) -> Tensor:
    """The stones of one colour whose chain touches no empty point; (n, B)."""
    return stones & ~flood(neighbours(empty), stones)


def in_atari(stones: Tensor, empty: Tensor) -> Tensor:
    """The stones of one colour whose chain has exactly one liberty; (n, B).

    A chain has two or more liberties exactly if, for some bit of the row's or the column's index,
    it touches a liberty with that bit set and one with it clear.
    """
    size = stones.shape[0]
    several = torch.zeros_like(stones)
    for half in _halves(size, stones.device):
        touched = flood(neighbours(empty & half), stones)
        several |= touched & flood(neighbours(empty & ~half), stones)
    return flood(neighbours(empty), stones) & ~several


def _halves(size: int, device: torch.device) -> list[Tensor]:
    """For each bit of a row's or column's index the points that have it set, each (n, 1)."""
    halves = []
    for bit in range((size - 1).bit_length()):
        chosen = [index for index in range(size) if index >> bit & 1]
        columns = sum(1 << column for column in chosen)
        rows = [row_mask(size) if row in chosen else 0 for row in range(size)]
        halves += [[columns] * size, rows]
    return [torch.tensor(half, dtype=torch.int32, device=device).unsqueeze(1) for half in halves]


def chain_in_atari(seed: Tensor, stones: Tensor, empty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which seeded chains have fewer than two liberties, found without flooding the others.

    Each column holds the seed of one chain. A chain leaves the loop as soon as two liberties are
    seen, which most do at once.

    Args:
        seed: (n, B), part of one chain in each column.
        stones: (n, B), all stones of that chain's colour.
        empty: (n, B).

    Returns:
        columns (K,) int64 whose chain has one liberty or none, their whole chains (n, K), and
        (K,) bool, True where the chain has none.
    """
    columns = torch.arange(seed.shape[1], device=seed.device)
    done = [(columns[:0], seed[:, :0], columns[:0] == 0)]
    while columns.numel():
        spread = neighbours(seed)
        libs = spread & empty
        grown = (spread & stones).bitwise_or_(seed)
        rows_with = libs.ne(0).sum(0, dtype=torch.int8)
        rows_with_two = (libs & (libs - 1)).ne(0).sum(0, dtype=torch.int8)
        few = rows_with + rows_with_two < 2
        growing = (grown != seed).any(0)
        final = (few & ~growing).nonzero().squeeze(1)
        done.append((columns[final], seed[:, final], rows_with[final] == 0))
        left = (few & growing).nonzero().squeeze(1)
        columns, seed = columns[left], grown[:, left]
        stones, empty = stones[:, left], empty[:, left]
    found, chains, none = zip(*done, strict=True)
    return torch.cat(found), torch.cat(chains, 1), torch.cat(none)


def popcount(words: Tensor) -> Tensor:
    """How many bits of each int32 word in [0, 2^31) are set; int32, any shape."""
    counts = words - (words >> 1 & 0x55555555)
    counts = (counts & 0x33333333) + (counts >> 2 & 0x33333333)
    counts = counts + (counts >> 4) & 0x0F0F0F0F
    return counts * 0x01010101 >> 24


def count_points(points: Tensor) -> Tensor:
    """How many points each set has; (B,) int32."""
    counts = points - (points >> 1 & 0x55555555)
    counts = (counts & 0x33333333).add_(counts >> 2 & 0x33333333)
    # Fields of four bits hold at most 4, so three rows can be added before they overflow.
    rows = counts.unbind()
    threes = torch.stack([reduce(torch.add, rows[r : r + 3]) for r in range(0, len(rows), 3)])
    fields = (threes & 0x0F0F0F0F).add_(threes >> 4 & 0x0F0F0F0F).sum(0, dtype=torch.int32)
    halves = (fields & 0x00FF00FF) + (fields >> 8 & 0x00FF00FF)
    return halves * 0x00010001 >> 16


def nth_point(points: Tensor, index: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Row and column of the index-th point of each board's set, in order of tokens.

    Args:
        points: (n, B).
        index: (B,) int64, from 0; must be less than the number of points.
        counts: (n, B) int32, popcount of ``points`` where it is known already.

    Returns:
        row (B,) int64 and column (B,) int64; a set that is too small gives row n - 1.
    """
    size = points.shape[0]
    counts = popcount(points) if counts is None else counts
    through = counts.cumsum(0, dtype=torch.int32)
    row = (through <= index).sum(0, dtype=torch.int8).clamp_(max=size - 1).long()
    at_row = row.unsqueeze(0)
    word = points.gather(0, at_row).squeeze(0)
    left = index - (through - counts).gather(0, at_row).squeeze(0)
    column = torch.zeros_like(row)
    for width in (16, 8, 4, 2, 1):
        low = popcount(word & ((1 << width) - 1))
        upper = left >= low
        left = torch.where(upper, left - low, left)
        word = torch.where(upper, word >> width, word)
        column = column + upper.to(column.dtype) * width
    return row, column
