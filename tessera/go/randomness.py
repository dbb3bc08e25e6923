"""Counter-based random numbers: every draw is a hash of (seed, game, ply, purpose).

Nothing is stored between draws, so a game is a pure function of its number on every device, and a
run can be resumed at any game without a generator's state.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 2^64 divided by the golden ratio, as a signed 64-bit integer
_MIX_1 = -0x40A7B892E31B1A47
_MIX_2 = -0x6B2FB644ECCEEE15
_LOW = 0xFFFFFFFF
_FRACTION_BITS = 53  # of a float64
_SHARE_BITS = 43  # so that the shares of a thousand columns add up to fewer than 53 bits

# Purposes keep draws apart that share seed, game and ply.
MOVE = 0
WINDOW = 1
ZOBRIST = 2
PLAYOUT = 3  # here the ply is the number of a playout
SEARCH = 4  # here the number is a game's word of a ply, and the ply is a move
OPENING = 5  # of a match
SAMPLE = 6  # here the ply is the number of a batch
SELFPLAY = 7
BEGINNING = 8  # of a game of self-play
VERSION = 9  # of a player; here the number is that of another version


def mix(words: Tensor) -> Tensor:
    """A bijective scrambling of 64-bit words; int64, any shape.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), the
    finaliser of SplitMix64 (constants of Stafford's variant 13).
    """
    words = (words ^ _shift_right(words, 30)) * _MIX_1
    words = (words ^ _shift_right(words, 27)) * _MIX_2
    return words ^ _shift_right(words, 31)


def random_words(seed: int, numbers: Tensor, ply: Tensor | int, purpose: int) -> Tensor:
    """64 random bits for each game, a pure function of the four arguments.

    Args:
        seed: any 64-bit integer.
        numbers: (...) int64, game numbers.
        ply: (...) int64 or an int, from 0.
        purpose: one of this module's purposes.

    Returns:
        (...) int64, all 64 bits random.
    """
    seeded = torch.full_like(numbers, seed_word(seed, purpose))
    games = mix(seeded + numbers * _GOLDEN)
    steps = (ply + 1) * _GOLDEN
    return mix(games + (_signed(steps) if isinstance(steps, int) else steps))


def seed_word(seed: int, purpose: int) -> int:
    """What a seed and a purpose contribute to every draw, a signed 64-bit integer."""
    word = (seed * _GOLDEN + purpose) % 2**64
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        word = (word ^ word >> shift) * factor % 2**64
    return _signed(word ^ word >> 31)


def below(words: Tensor, bound: Tensor) -> Tensor:
    """Whole numbers in [0, bound), the high word of ``words · bound`` with words unsigned.

    Integer arithmetic only, so that every backend draws the same number. Each value's probability
    differs from 1/bound by less than 2^-64.

    Args:
        words: (...) int64, 64 random bits each.
        bound: (...) int64, 0 to 2^31 - 1; 0 gives 0.
    """
    high = _shift_right(words, 32)
    low = words & _LOW
    return _shift_right(high * bound + _shift_right(low * bound, 32), 32)


def draw(shares: Tensor, allowed: Tensor, words: Tensor) -> Tensor:
    """An allowed column of each row, with a probability in proportion to its share; (B,) int64.

    The shares come from floating point: another device may draw another column where they differ
    in their last bits. What is drawn from given shares is the same everywhere.

    Args:
        shares: (B, C) floating point, 0 to 1, counted to 43 binary places; 0 where not allowed.
        allowed: (B, C) bool, True in at least one column of each row.
        words: (B,) int64, 64 random bits each.
    """
    # Whole numbers add up to the same in any order; a GPU adds others in an order of its own.
    through = (shares * 2.0**_SHARE_BITS).long().cumsum(1)
    bits = _shift_right(words, 64 - _FRACTION_BITS)
    drawn = bits.double().unsqueeze(1) * 2.0**-_FRACTION_BITS * through[:, -1:]
    # The first allowed column that the draw falls to; the first allowed one if rounding left none.
    return (allowed.int() + (allowed & (through > drawn))).argmax(1)


def _shift_right(words: Tensor, bits: int) -> Tensor:
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return (word + 2**63) % 2**64 - 2**63
