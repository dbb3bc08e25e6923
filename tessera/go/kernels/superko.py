"""Superko inside one warp: which moves would repeat a position; Triton beside ``superko``.

The game's positions stand in memory as 64-bit words, one a ply; a Bloom filter of 4,096 bits over
them is four registers of each lane. Only what passes the filter is compared with the positions, by
all lanes at once. The filter decides nothing, so it need not be the plain code's.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import (
    LANES,
    first_row,
    flood,
    lowest_point,
    neighbours,
    popcount,
)

_CHUNK = tl.constexpr(128)  # positions that are compared at once, four loads a lane


@triton.jit
def filter_add(f0, f1, f2, f3, word):
    """The Bloom filter with one more word; ``word`` is a scalar."""
    at = word.to(tl.int32) & 4095
    bit = tl.where(tl.arange(0, LANES) == (at & 31), 1 << (at >> 7), 0)
    which = (at >> 5) & 3
    f0 = f0 | tl.where(which == 0, bit, 0)
    f1 = f1 | tl.where(which == 1, bit, 0)
    f2 = f2 | tl.where(which == 2, bit, 0)
    f3 = f3 | tl.where(which == 3, bit, 0)
    return f0, f1, f2, f3


@triton.jit
def zobrist_sum(points, keys, SIZE: tl.constexpr):
    """The sum of the keys of a set's points; ``keys`` points at the first key of the colour."""
    first_key = keys + tl.arange(0, LANES) * SIZE
    total = tl.zeros([LANES], tl.int64)
    left = points
    growing = tl.max(left, 0)
    while growing != 0:
        column = popcount((left & -left) - 1)
        total += tl.load(first_key + column, mask=left != 0, other=0)
        left = left & (left - 1)
        growing = tl.max(left, 0)
    return tl.sum(total, 0)


@triton.jit
def is_position(word, positions, num_positions):
    """1 if the word, a scalar, is one of the game's positions, else 0."""
    found = 0
    start = 0
    while start < num_positions:
        at = start + tl.arange(0, _CHUNK)
        inside = at < num_positions
        same = inside & (tl.load(positions + at, mask=inside, other=0) == word)
        found = tl.max(same.to(tl.int32), 0)
        start = tl.where(found != 0, num_positions, start + _CHUNK)
    return found


@triton.jit
def known(words, asked, positions, num_positions, f0, f1, f2, f3):
    """1 in the lanes that ask and whose word is one of the game's positions, else 0."""
    lane = tl.arange(0, LANES)
    at = words.to(tl.int32) & 4095
    source = at & 31
    which = (at >> 5) & 3
    low = tl.where(which == 0, tl.gather(f0, source, 0), tl.gather(f1, source, 0))
    high = tl.where(which == 2, tl.gather(f2, source, 0), tl.gather(f3, source, 0))
    maybe = tl.where(asked, (tl.where(which < 2, low, high) >> (at >> 7)) & 1, 0)
    found = tl.zeros([LANES], tl.int32)
    row = first_row(maybe)
    while row < LANES:
        word = tl.sum(tl.where(lane == row, words, 0), 0)
        found = tl.where(lane == row, is_position(word, positions, num_positions), found)
        maybe = tl.where(lane == row, 0, maybe)
        row = first_row(maybe)
    return found


@triton.jit
def word_is_known(word, positions, num_positions, f0, f1, f2, f3):
    """1 if the word, a scalar, is one of the game's positions, else 0."""
    lane = tl.arange(0, LANES)
    words = tl.zeros([LANES], tl.int64) + word
    return tl.max(known(words, lane == 0, positions, num_positions, f0, f1, f2, f3), 0)


@triton.jit
def stone_repeats(
    own, opponent, atari, suspects, now, own_keys, opponent_keys,
    positions, num_positions, f0, f1, f2, f3, SIZE: tl.constexpr,
):  # fmt: skip
    """Of moves that are no suicide those after which an earlier position would return.

    Args:
        own, opponent, atari: the position.
        suspects: the moves to look at.
        now: the word of this position with the other player to move, a scalar.
        own_keys, opponent_keys: point at the Zobrist keys of the two colours.
        positions: points at the game's words.
        num_positions: how many there are.
        f0, f1, f2, f3: the Bloom filter.
    """
    captures = suspects & neighbours(opponent & atari)
    first_key = own_keys + tl.arange(0, LANES) * SIZE
    forbidden = tl.zeros_like(own)
    left = suspects & ~captures
    growing = tl.max(left, 0)
    while growing != 0:
        bit = left & -left
        words = tl.load(first_key + popcount(bit - 1), mask=left != 0, other=0) + now
        found = known(words, left != 0, positions, num_positions, f0, f1, f2, f3)
        forbidden = forbidden | tl.where(found != 0, bit, 0)
        left = left & (left - 1)
        growing = tl.max(left, 0)

    row = first_row(captures)
    while row < LANES:
        stone = lowest_point(captures, row)
        taken = flood(neighbours(stone), opponent & atari)
        word = now + zobrist_sum(stone, own_keys, SIZE) - zobrist_sum(taken, opponent_keys, SIZE)
        if word_is_known(word, positions, num_positions, f0, f1, f2, f3) != 0:
            forbidden = forbidden | stone
        captures = captures & ~stone
        row = first_row(captures)
    return forbidden


@triton.jit
def suicide_repeats(
    own, suicides, now, own_keys, positions, num_positions, f0, f1, f2, f3, SIZE: tl.constexpr
):
    """Of suicides those after which an earlier position would return; as ``stone_repeats``."""
    forbidden = tl.zeros_like(own)
    chains = suicides & neighbours(own)
    alone = suicides & ~chains
    # A single stone changes nothing on the board, wherever it is.
    if tl.max(alone, 0) != 0:
        if word_is_known(now, positions, num_positions, f0, f1, f2, f3) != 0:
            forbidden = alone
    row = first_row(chains)
    while row < LANES:
        stone = lowest_point(chains, row)
        word = now - zobrist_sum(flood(neighbours(stone), own), own_keys, SIZE)
        if word_is_known(word, positions, num_positions, f0, f1, f2, f3) != 0:
            forbidden = forbidden | stone
        chains = chains & ~stone
        row = first_row(chains)
    return forbidden
