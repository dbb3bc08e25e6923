"""The built-in players inside one warp, and their draws; Triton beside ``players``."""

from __future__ import annotations

import triton
import triton.language as tl

from tessera.go.kernels.board import (
    LANES,
    first_line,
    neighbours,
    nth_point,
    popcount,
    row_above,
    row_below,
    rows_of_board,
    two_of_four,
)

_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_MIX_1 = tl.constexpr(0xBF58476D1CE4E5B9)
_MIX_2 = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def mix(words):
    """The finaliser of SplitMix64, as ``randomness.mix``; uint64."""
    words = (words ^ (words >> 30)) * _MIX_1
    words = (words ^ (words >> 27)) * _MIX_2
    return words ^ (words >> 31)


@triton.jit
def game_word(seeded, number):
    """What ``randomness.random_words`` makes of a game's number; ``seeded`` is its first mix."""
    return mix(seeded.to(tl.uint64) + number.to(tl.uint64) * _GOLDEN)


@triton.jit
def ply_words(game, plies):
    """64 random bits for each ply of the game."""
    return mix(game + (plies + 1).to(tl.uint64) * _GOLDEN)


@triton.jit
def below(words, bound):
    """Whole numbers in [0, bound), the high word of ``words · bound``; int32."""
    wide = bound.to(tl.uint64)
    high = words >> 32
    low = words & 0xFFFFFFFF
    return ((high * wide + ((low * wide) >> 32)) >> 32).to(tl.int32)


@triton.jit
def hane_and_cuts(own, opponent, empty_n, empty_s, empty_w, empty_e):
    """Points where a stone makes a hane or a cut, see ``shapes.hane_and_cuts``."""
    foe_n = row_above(opponent)
    foe_s = row_below(opponent)
    foe_w = opponent << 1
    foe_e = opponent >> 1
    own_n = row_above(own)
    own_s = row_below(own)
    own_nw = own_n << 1
    own_ne = own_n >> 1
    own_sw = own_s << 1
    own_se = own_s >> 1
    hane = ((foe_n & (own_nw | own_ne)) | (foe_s & (own_sw | own_se))) & empty_w & empty_e
    level = ((foe_w & (own_nw | own_sw)) | (foe_e & (own_ne | own_se))) & empty_n & empty_s
    cuts = foe_n & ((foe_w & own_nw) | (foe_e & own_ne))
    return hane | level | cuts | (foe_s & ((foe_w & own_sw) | (foe_e & own_se)))


@triton.jit
def choose_uniform(candidates, word):
    """One of the candidates, each equally likely; returns as ``choose_rules``."""
    counts = popcount(candidates)
    total = tl.sum(counts, 0)
    return nth_point(candidates, counts, below(word, total)), total, 0, 0.0


@triton.jit
def _only(odd, two, NUMBER: tl.constexpr):
    """The points that are in exactly NUMBER of three sets, from the number's two binary digits."""
    first = odd if NUMBER % 2 == 1 else ~odd
    second = two if NUMBER >= 2 else ~two
    return first & second


@triton.jit
def choose_rules(candidates, own, opponent, atari, last, early, word, SIZE: tl.constexpr):
    """A draw of the player ``rules``.

    Args:
        candidates: legal points that fill no own true eye.
        own, opponent, atari: the position.
        last: the point of the last move; the empty set after a pass.
        early: scalar bool, whether this is one of the first n²/4 plies.
        word: 64 random bits, the same in all lanes.

    Returns:
        The drawn point as a set; the total weight (0 where there is no candidate); the exponent of
        the drawn point's weight; the sum of weight times exponent over all candidates, float32.
    """
    lane = tl.arange(0, LANES)
    empty = rows_of_board(SIZE) & ~(own | opponent)
    empty_n = row_above(empty)
    empty_s = row_below(empty)
    room = neighbours(own & ~atari) | two_of_four(empty_n, empty_s, empty << 1, empty >> 1)
    capture = neighbours(opponent & atari)
    rescue = neighbours(own & atari) & room
    escape = room | capture
    strong_odd = capture ^ rescue ^ escape
    strong_two = (capture & rescue) | (escape & (capture | rescue))

    wide = last | (last << 1) | (last >> 1)
    near = wide | row_above(wide) | row_below(wide)
    shape = hane_and_cuts(own, opponent, empty_n, empty_s, empty << 1, empty >> 1)
    inside = tl.where(early, ~first_line(SIZE), -1)
    mild_odd = near ^ shape ^ inside
    mild_two = (near & shape) | (inside & (near | shape))

    # Lane 4i + j gets the number of points with i strong and j mild marks.
    counts = tl.zeros([LANES], tl.int32)
    for i in tl.static_range(4):
        strong = candidates & _only(strong_odd, strong_two, i)
        for half in tl.static_range(2):
            pair = popcount(strong & _only(mild_odd, mild_two, 2 * half))
            pair += popcount(strong & _only(mild_odd, mild_two, 2 * half + 1)) << 16
            pair = tl.sum(pair, 0)
            counts = tl.where(lane == 4 * i + 2 * half, pair & 0xFFFF, counts)
            counts = tl.where(lane == 4 * i + 2 * half + 1, pair >> 16, counts)
    exponents = 4 * (lane >> 2) + 3 * (lane & 3)
    weights = tl.where(lane < 16, counts << exponents, 0)
    through = tl.cumsum(weights, 0)
    total = tl.sum(weights, 0)
    left = below(word, total) - (through - weights)
    here = (left >= 0) & (left < weights)
    drawn = tl.sum(tl.where(here, (left >> exponents) | (lane << 9), 0), 0)
    which = drawn >> 9
    chosen = candidates & ~(strong_odd ^ -((which >> 2) & 1)) & ~(strong_two ^ -(which >> 3))
    chosen = chosen & ~(mild_odd ^ -(which & 1)) & ~(mild_two ^ -((which >> 1) & 1))
    stone = nth_point(chosen, popcount(chosen), drawn & 511)
    exponent = 4 * (which >> 2) + 3 * (which & 3)
    return stone, total, exponent, tl.sum(weights.to(tl.float32) * exponents, 0)
