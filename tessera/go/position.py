"""One move on each of many boards: captures, suicide, and which chains are in atari afterwards.

Shapes: B games, n rows, bitboards (n, B). Every position carries one set beside the stones: the
stones, of both colours, whose chain has exactly one liberty. With it no flood is needed to tell
legal moves, and a move has to look only at the chains that it touches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.go.bitboard import (
    chain_in_atari,
    flood,
    in_atari,
    neighbours,
    nth_point,
    popcount,
    row_mask,
    single,
)


@dataclass(slots=True)
class Position:
    """Stones of the player to move, of the other, and the stones in atari; each (n, B) int32."""

    own: Tensor
    opponent: Tensor
    atari: Tensor

    @property
    def empty(self) -> Tensor:
        """(n, B), the points without a stone."""
        return ~(self.own | self.opponent) & row_mask(self.own.shape[0])

    def select(self, games: Tensor) -> Position:
        """The positions of these games (K,) int64, as copies."""
        return Position(self.own[:, games], self.opponent[:, games], self.atari[:, games])


@dataclass(frozen=True, slots=True)
class Removed:
    """Stones that a ply took off the board: ``stones`` (n, K) in the games ``games`` (K,)."""

    games: Tensor
    stones: Tensor

    def counts(self, batch_size: int) -> Tensor:
        """How many stones each of all the games lost; (B,) int64."""
        counts = self.games.new_zeros(batch_size)
        if self.games.numel():
            counts[self.games] = popcount(self.stones).sum(0)
        return counts

    def first_points(self, chosen: Tensor) -> Tensor:
        """The first point (B,) int64 of each game's stones where ``chosen`` (B,), elsewhere -1."""
        result = torch.full_like(chosen, -1, dtype=torch.int64)
        if self.games.numel():
            row, column = nth_point(self.stones, torch.zeros_like(self.games))
            points = row * self.stones.shape[0] + column
            result[self.games] = torch.where(chosen[self.games], points, -1)
        return result


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one ply did.

    Attributes:
        taken: the opponent's stones that were captured.
        suicides: the mover's own stones that were removed.
        is_ko: (B,) bool, the stone may be alone in a ko: it has no neighbour of its colour and
            one liberty.
        taken_sides: (B,) uint8, whether the stone took what was to the right of it (1), to the left
            (2), above (4) and below (8).
    """

    taken: Removed
    suicides: Removed
    is_ko: Tensor
    taken_sides: Tensor


def no_suicide(position: Position, capture: str) -> Tensor:
    """The empty points where a stone would have a liberty after captures; (n, B).

    A point is one of them exactly if it is next to an empty point, to an own chain with a second
    liberty, or to an enemy chain whose last liberty it is.
    """
    empty, own = position.empty, position.own
    safe = own if capture == "single" else own & ~position.atari
    return neighbours(empty | safe | position.opponent & position.atari) & empty


def all_in_atari(position: Position, capture: str) -> Tensor:
    """The stones in atari computed from the stones alone; (n, B).

    Where only single stones are captured, only a single stone can be in atari.
    """
    find = _single_in_atari if capture == "single" else in_atari
    empty = position.empty
    return find(position.own, empty) | find(position.opponent, empty)


def place(position: Position, row: Tensor, bit: Tensor, capture: str) -> Outcome:
    """Put the mover's stone on each board and remove what that captures, in place.

    The mover stays the mover: exchanging the two players is the caller's.

    Args:
        position: is changed.
        row: (B,) int64, the stone's row.
        bit: (B,) int32, ``1 << column``; 0 where no stone is played.
        capture: "chains" or "single", as in Rules.
    """
    rows, bits = _four_neighbours(row, bit, position.own.shape[0])

    def beside(points: Tensor) -> Tensor:
        """(4, B) bool, which of the stone's neighbours are in the set."""
        return (points.gather(0, rows) & bits).ne(0)

    own_beside = beside(position.own)
    at_row = row.unsqueeze(0)
    position.own.scatter_(0, at_row, position.own.gather(0, at_row) | bit.unsqueeze(0))

    right, left, above, below = beside(position.opponent & position.atari).byte()
    taken_sides = right | left << 1 | above << 2 | below << 3
    taken = _capture(position, taken_sides.nonzero().squeeze(1), row, bit)
    empty = position.empty
    liberties = beside(empty).sum(0)
    is_ko = ~own_beside.any(0) & (liberties == 1)
    nothing = Removed(row[:0], position.own[:, :0])
    if capture == "single":
        lost = (bit.ne(0) & ~own_beside.any(0) & (liberties == 0)).nonzero().squeeze(1)
        suicides = nothing
        if lost.numel():
            suicides = Removed(lost, single(row[lost], bit[lost], position.own.shape[0]))
            position.own.index_copy_(1, lost, position.own[:, lost] & ~suicides.stones)
        position.atari.copy_(all_in_atari(position, capture))
        return Outcome(taken, suicides, is_ko, taken_sides)

    joined = (own_beside & beside(position.atari)).any(0).nonzero().squeeze(1)
    if joined.numel():
        chosen = position.select(joined)
        stone = single(row[joined], bit[joined], position.own.shape[0])
        chains = flood(neighbours(stone), chosen.own & chosen.atari)
        position.atari.index_copy_(1, joined, chosen.atari & ~chains)

    short = (bit.ne(0) & (liberties < 2)).nonzero().squeeze(1)
    sides, attacked = beside(position.opponent).nonzero().unbind(1)
    dead = _mark_atari(position, empty, (row, bit, short), (rows, bits, sides, attacked))
    suicides = _remove_suicides(position, *dead) if dead[0].numel() else nothing
    return Outcome(taken, suicides, is_ko, taken_sides)


def _four_neighbours(row: Tensor, bit: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows and bits (4, B) of the points beside a stone: right, left, above, below."""
    above, below = row - 1, row + 1
    rows = torch.stack([row, row, above.clamp(min=0), below.clamp(max=size - 1)])
    bits = torch.stack([bit << 1, bit >> 1, bit * (above >= 0), bit * (below < size)])
    return rows, bits.to(torch.int32)


def _capture(position: Position, games: Tensor, row: Tensor, bit: Tensor) -> Removed:
    """Remove the enemy chains in atari beside the stone, in place."""
    if not games.numel():
        return Removed(games, position.own[:, :0])
    chosen = position.select(games)
    stone = single(row[games], bit[games], position.own.shape[0])
    taken = flood(neighbours(stone), chosen.opponent & chosen.atari)
    # A chain in atari next to a captured stone gains a second liberty there.
    freed = flood(neighbours(taken), chosen.own & chosen.atari)
    position.opponent.index_copy_(1, games, chosen.opponent & ~taken)
    position.atari.index_copy_(1, games, chosen.atari & ~(taken | freed))
    return Removed(games, taken)


def _mark_atari(
    position: Position,
    empty: Tensor,
    own_chain: tuple[Tensor, Tensor, Tensor],
    enemy_chains: tuple[Tensor, Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Mark the chains that the stone left with one liberty; return own ones that have none."""
    row, bit, short = own_chain
    rows, bits, sides, attacked = enemy_chains
    size = position.own.shape[0]
    seed_row, seed_bit = rows[sides, attacked], bits[sides, attacked]
    # A stone with two empty points beside it speaks for its chain: most need no flood.
    around = _four_neighbours(seed_row, seed_bit, size)
    roomy = (empty[around[0], attacked] & around[1]).ne(0).sum(0) > 1
    tight = (~roomy).nonzero().squeeze(1)
    sides, attacked = sides[tight], attacked[tight]
    seed_row = torch.cat([row[short], seed_row[tight]])
    seed_bit = torch.cat([bit[short], seed_bit[tight]])
    games = torch.cat([short, attacked])
    # Group 0 is the mover's own chain, groups 1 to 4 are the four sides: games differ in a group.
    group = torch.cat([torch.zeros_like(short), sides + 1])
    stones = torch.cat([position.own[:, short], position.opponent[:, attacked]], 1)
    columns, chains, none = chain_in_atari(
        single(seed_row, seed_bit, size), stones, empty[:, games]
    )
    group, games = group[columns], games[columns]
    for side in range(5):
        chosen = (group == side).nonzero().squeeze(1)
        at = games[chosen]
        position.atari.index_copy_(1, at, position.atari[:, at] | chains[:, chosen])
    dead = (none & (group == 0)).nonzero().squeeze(1)
    return games[dead], chains[:, dead]


def _remove_suicides(position: Position, games: Tensor, chains: Tensor) -> Removed:
    chosen = position.select(games)
    freed = flood(neighbours(chains), chosen.opponent & chosen.atari)
    position.own.index_copy_(1, games, chosen.own & ~chains)
    position.atari.index_copy_(1, games, chosen.atari & ~(chains | freed))
    return Removed(games, chains)


def _single_in_atari(stones: Tensor, empty: Tensor) -> Tensor:
    """The stones without a neighbour of their colour that have exactly one liberty; (n, B)."""
    right, left = empty << 1, empty >> 1
    above, below = torch.zeros_like(empty), torch.zeros_like(empty)
    above[1:], below[:-1] = empty[:-1], empty[1:]
    one = right ^ left ^ above ^ below
    three = (right & left & (above ^ below)) | (above & below & (right ^ left))
    return stones & ~neighbours(stones) & one & ~three
