"""Sets of points of one board in one warp, and a stone played on it; Triton beside ``position``.

A set of points is an int32 block of 32 lanes: bit c of lane r is the point in row r, column c, and
lanes beyond the board hold 0. Row moves are shuffles, so a board never leaves the registers.
Numbers that all lanes share are scalars. ``bitboard``, ``position`` and ``shapes`` hold the same
functions in plain torch, which are the specification.
"""

from __future__ import annotations

import triton
import triton.language as tl

LANES = tl.constexpr(32)


@triton.jit
def popcount(words):
    """How many bits of each word are set; LLVM knows the pattern and emits one instruction."""
    x = words.to(tl.uint32)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return ((x * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def rows_of_board(SIZE: tl.constexpr):
    """All points of the board."""
    return tl.where(tl.arange(0, LANES) < SIZE, (1 << SIZE) - 1, 0)


@triton.jit
def row_above(points):
    """In each row the row above it."""
    return tl.gather(points, (tl.arange(0, LANES) + 31) & 31, 0)


@triton.jit
def row_below(points):
    """In each row the row below it."""
    return tl.gather(points, (tl.arange(0, LANES) + 1) & 31, 0)


@triton.jit
def neighbours(points):
    """The points next to a point of the set; bits beyond the board may come out set."""
    return (points << 1) | (points >> 1) | row_above(points) | row_below(points)


@triton.jit
def flood(seed, points):
    """The connected parts of ``points`` that ``seed`` touches."""
    result = seed & points
    growing = 1
    while growing != 0:
        grown = result | (neighbours(result) & points)
        grown = grown | (neighbours(grown) & points)
        growing = tl.max(grown ^ result, 0)
        result = grown
    return result


@triton.jit
def first_row(points):
    """The first row that is not empty, 32 if all are."""
    return tl.min(tl.where(points != 0, tl.arange(0, LANES), LANES), 0)


@triton.jit
def lowest_point(points, row):
    """The leftmost point of one row as a set."""
    return tl.where(tl.arange(0, LANES) == row, points & -points, 0)


@triton.jit
def nth_point(points, counts, index):
    """The index-th point, in order of tokens, as a set; none where the set is too small.

    Args:
        points: the set.
        counts: its popcount, row by row.
        index: scalar or the same in all lanes, from 0.
    """
    through = tl.cumsum(counts, 0)
    left = index - (through - counts)
    here = (left >= 0) & (left < counts)
    # Counts of each two, four, eight and sixteen columns, then down from the widest.
    twos = points - ((points >> 1) & 0x55555555)
    fours = (twos & 0x33333333) + ((twos >> 2) & 0x33333333)
    eights = (fours + (fours >> 4)) & 0x0F0F0F0F
    low = (eights + (eights >> 8)) & 0xFF
    column = tl.where(left >= low, 16, 0)
    left = tl.where(left >= low, left - low, left)
    low = (eights >> column) & 0xF
    column = tl.where(left >= low, column + 8, column)
    left = tl.where(left >= low, left - low, left)
    low = (fours >> column) & 0xF
    column = tl.where(left >= low, column + 4, column)
    left = tl.where(left >= low, left - low, left)
    low = (twos >> column) & 3
    column = tl.where(left >= low, column + 2, column)
    left = tl.where(left >= low, left - low, left)
    column += (left >= ((points >> column) & 1)).to(tl.int32)
    return tl.where(here, 1 << column, 0)


@triton.jit
def two_of_four(north, south, west, east):
    """The points that are in at least two of four sets."""
    return (north & south) | (west & east) | ((north | south) & (west | east))


@triton.jit
def with_room(empty):
    """The points with at least two empty points beside them."""
    return two_of_four(row_above(empty), row_below(empty), empty << 1, empty >> 1)


@triton.jit
def first_line(SIZE: tl.constexpr):
    """The first line all around the board."""
    row = tl.arange(0, LANES)
    full = rows_of_board(SIZE)
    return tl.where((row == 0) | (row == SIZE - 1), full, full & (1 | (1 << (SIZE - 1))))


@triton.jit
def true_eyes(own, opponent, SIZE: tl.constexpr):
    """Empty points that a player should not fill, see ``shapes.true_eyes``."""
    not_own = rows_of_board(SIZE) & ~own
    eyes = not_own & ~(opponent | neighbours(not_own))
    north = row_above(opponent)
    south = row_below(opponent)
    north_any = (north << 1) | (north >> 1)
    south_any = (south << 1) | (south >> 1)
    several = ((north << 1) & (north >> 1)) | ((south << 1) & (south >> 1))
    several = several | (north_any & south_any)
    return eyes & ~(several | ((north_any | south_any) & first_line(SIZE)))


@triton.jit
def no_suicide(own, opponent, atari, SIZE: tl.constexpr, SINGLE: tl.constexpr):
    """The empty points where a stone would have a liberty after captures."""
    empty = rows_of_board(SIZE) & ~(own | opponent)
    safe = own if SINGLE else own & ~atari
    return neighbours(empty | safe | (opponent & atari)) & empty


@triton.jit
def single_in_atari(stones, empty):
    """The stones without a neighbour of their colour that have exactly one liberty."""
    right = empty << 1
    left = empty >> 1
    above = row_above(empty)
    below = row_below(empty)
    one = right ^ left ^ above ^ below
    three = (right & left & (above ^ below)) | (above & below & (right ^ left))
    return stones & ~neighbours(stones) & one & ~three


@triton.jit
def place(
    own,
    opponent,
    atari,
    stone,
    lost,
    SIZE: tl.constexpr,
    SUICIDE: tl.constexpr,
    SINGLE: tl.constexpr,
):
    """Put the mover's stone on the board and remove what that captures.

    The mover stays the mover, as in ``position.place``.

    Args:
        own, opponent, atari: the position.
        stone: one empty point as a set; the empty set for a pass.
        lost: any set; whether it has the stone's point comes back.

    Returns:
        own, opponent, atari; taken and suicides, the stones that were removed; num_taken and
        num_suicides; token of the stone; whether the stone is a pass, and whether its point is in
        ``lost``; is_ko, 1 if the stone is alone with one liberty (0 where nothing was taken).
    """
    lane = tl.arange(0, LANES)
    full = rows_of_board(SIZE)
    beside = neighbours(stone)
    own_beside = beside & own
    # One sum over the lanes brings all facts: a stone touches three rows at most.
    facts = tl.where(stone != 0, lane * SIZE + popcount(stone - 1) + 512, 0)
    facts += ((stone & lost) != 0).to(tl.int32) << 10
    facts += ((beside & opponent & atari) != 0).to(tl.int32) << 11
    facts += ((own_beside & atari) != 0).to(tl.int32) << 13
    facts += (own_beside != 0).to(tl.int32) << 15
    facts = tl.sum(facts, 0)
    token = facts & 511
    placed = (facts >> 9) & 1
    was_lost = (facts >> 10) & 1

    own = own | stone
    taken = tl.zeros_like(own)
    suicides = tl.zeros_like(own)
    num_taken = tl.zeros([], tl.int32)
    num_suicides = tl.zeros([], tl.int32)
    is_ko = tl.zeros([], tl.int32)
    if ((facts >> 11) & 3) != 0:
        taken = flood(beside, opponent & atari)
        opponent = opponent & ~taken
        if SINGLE:
            atari = atari & ~taken
        else:
            # A chain in atari next to a captured stone gains a second liberty there.
            atari = atari & ~(taken | flood(neighbours(taken), own & atari))
        empty = full & ~(own | opponent)
        counts = tl.sum(popcount(taken) + (popcount(beside & empty) << 10), 0)
        num_taken = counts & 1023
        is_ko = (((counts >> 10) == 1) & ((facts >> 15) == 0)).to(tl.int32)
    empty = full & ~(own | opponent)

    if SINGLE:
        alone = (placed != 0) & ((facts >> 15) == 0)
        if alone & (tl.max(beside & empty, 0) == 0):
            suicides = stone
            num_suicides = num_suicides + 1
            own = own & ~stone
            empty = empty | stone
        atari = single_in_atari(own, empty) | single_in_atari(opponent, empty)
    else:
        if ((facts >> 13) & 3) != 0:
            atari = atari & ~flood(beside, own & atari)
        # A stone with two empty points beside it speaks for its chain: most need no look.
        seeds = ((beside & opponent) | stone) & ~with_room(empty)
        look = tl.where(seeds != 0, lane * 2 + (((seeds & -seeds) & own) != 0).to(tl.int32), 64)
        look = tl.min(look, 0)
        while look < 64:
            row = look >> 1
            mine = look & 1
            chain = lowest_point(seeds, row)
            stones = opponent
            if mine != 0:
                stones = own
            count = 0
            growing = 1
            while growing != 0:
                spread = neighbours(chain)
                grown = chain | (spread & stones)
                # Two liberties are enough to know, so a row counts two at most.
                liberties = spread & empty
                seen = tl.where(liberties != 0, 64, 0) + (grown != chain).to(tl.int32)
                seen += tl.where((liberties & (liberties - 1)) != 0, 64, 0)
                seen = tl.sum(seen, 0)
                count = seen >> 6
                growing = tl.where(count < 2, seen & 63, 0)
                chain = grown
            if count < 2:
                atari = atari | chain
                if SUICIDE:
                    if (count == 0) & (mine != 0):
                        suicides = chain
                        num_suicides = num_suicides + 1
            seeds = seeds & ~chain
            look = tl.where(seeds != 0, lane * 2 + (((seeds & -seeds) & own) != 0).to(tl.int32), 64)
            look = tl.min(look, 0)
        if SUICIDE:
            if num_suicides != 0:
                freed = flood(neighbours(suicides), opponent & atari)
                own = own & ~suicides
                atari = atari & ~(suicides | freed)
                num_suicides = tl.sum(popcount(suicides), 0)
    return (
        own, opponent, atari, taken, suicides, num_taken, num_suicides,
        token, placed, was_lost, is_ko,
    )  # fmt: skip
