"""Local shapes of stones as sets of points: true eyes, hane, cuts, surroundings.

Shapes: B boards, n rows; every set is a row bitboard (n, B) int32.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from tessera.go.bitboard import neighbours, row_mask


def moved(points: Tensor, down: int, right: int) -> Tensor:
    """The set moved by rows (-1, 0, 1) and columns (-1, 0, 1).

    Rows that leave the board are gone; a bit may stand beyond the last column, which the caller's
    intersection with a set of the board removes.
    """
    sideways = points << 1 if right > 0 else points >> 1 if right < 0 else points
    if down == 0:
        return sideways
    result = torch.zeros_like(sideways)
    if down > 0:
        result[1:] = sideways[:-1]
    else:
        result[:-1] = sideways[1:]
    return result


def border(board_size: int, device: torch.device) -> Tensor:
    """The first line all around the board; (n, 1)."""
    full = row_mask(board_size)
    sides = 1 | 1 << (board_size - 1)
    rows = [full if row in (0, board_size - 1) else sides for row in range(board_size)]
    return constant(tuple(rows), torch.int32, device).unsqueeze(1)


@functools.cache
def constant(values: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Whole numbers on a device, not to be written to.

    They are copied there once: what copies from the host cannot be captured in a CUDA graph.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def surroundings(points: Tensor) -> Tensor:
    """The 3x3 squares around the points of the set, they themselves included."""
    wide = points | points << 1 | points >> 1
    result = wide.clone()
    result[1:] |= wide[:-1]
    result[:-1] |= wide[1:]
    return result


def true_eyes(own: Tensor, opponent: Tensor, line: Tensor) -> Tensor:
    """Empty points that a player should not fill: eyes that cannot be made false.

    All neighbours are own stones, and of the diagonal points the opponent holds at most one, on
    the first line none.

    Args:
        own: the player's stones.
        opponent: the other's stones.
        line: the first line, from ``border``.
    """
    full = row_mask(own.shape[0])
    not_own = ~own & full
    eyes = not_own & ~(opponent | neighbours(not_own))
    right, left = opponent << 1, opponent >> 1
    either, both = right | left, right & left
    several = torch.zeros_like(both)
    several[1:] = both[:-1]
    several[:-1] |= both[1:]
    several[1:-1] |= either[:-2] & either[2:]
    some = torch.zeros_like(either)
    some[1:] = either[:-1]
    some[:-1] |= either[1:]
    return eyes & ~(several | some & line)


def two_of_four(north: Tensor, south: Tensor, west: Tensor, east: Tensor) -> Tensor:
    """The points that are in at least two of four sets."""
    return north & south | west & east | (north | south) & (west | east)


def hane_and_cuts(
    own: Tensor, opponent: Tensor, empty_beside: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """Points where a stone makes a hane or a cut; each in all four orientations.

    ::

        hane  X O ?    (or mirrored)    cut  X O ?
              . + .                          O + ?
              ? ? ?                          ? ? ?

    X is a stone of the player, O of the opponent, + the point, . empty, ? anything.

    Source: after the 3x3 patterns of Gelly, Wang, Munos and Teytaud, "Modification of UCT with
    patterns in Monte-Carlo Go" (2006); fewer and more general ones.

    Args:
        own: the player's stones.
        opponent: the other's stones.
        empty_beside: points whose northern, southern, western, eastern neighbour is empty.
    """
    empty_n, empty_s, empty_w, empty_e = empty_beside
    foe_n, foe_s = moved(opponent, 1, 0), moved(opponent, -1, 0)
    foe_w, foe_e = opponent << 1, opponent >> 1
    west, east = own << 1, own >> 1
    own_nw, own_ne = moved(west, 1, 0), moved(east, 1, 0)
    own_sw, own_se = moved(west, -1, 0), moved(east, -1, 0)
    upright, level = empty_w & empty_e, empty_n & empty_s
    hane = (foe_n & (own_nw | own_ne) | foe_s & (own_sw | own_se)) & upright
    hane |= (foe_w & (own_nw | own_sw) | foe_e & (own_ne | own_se)) & level
    cuts = foe_n & (foe_w & own_nw | foe_e & own_ne)
    return hane | cuts | foe_s & (foe_w & own_sw | foe_e & own_se)
