"""Which stones of small boards the opponent can capture while their owner passes, tried out.

Nothing here is shared with tessera.go. A board of n² points is one whole number, bit p the point
p, and ko is left out, which could only forbid the opponent something.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

Positions = tuple[Tensor, Tensor]


class SmallBoard:
    """Moves on many boards of n×n points at once; n is 2 to 4."""

    def __init__(self, size: int) -> None:
        self.size, self.points = size, size**2
        self.full = (1 << self.points) - 1
        columns = [sum(1 << (r * size + c) for r in range(size)) for c in (0, size - 1)]
        self.not_first, self.not_last = (self.full & ~column for column in columns)
        masks = torch.arange(self.full + 1)
        bits = masks.unsqueeze(1) >> torch.arange(self.points) & 1
        self.counts = bits.sum(1)
        self._codes = (bits * 3 ** torch.arange(self.points)).sum(1)

    def code(self, own: Tensor, foe: Tensor) -> Tensor:
        """The number of a position, 0 to 3^points - 1."""
        return self._codes[own] + 2 * self._codes[foe]

    def beside(self, points: Tensor) -> Tensor:
        """The points beside a point of the set."""
        sideways = (points & self.not_last) << 1 | (points & self.not_first) >> 1
        return (sideways | points << self.size | points >> self.size) & self.full

    def breathing(self, stones: Tensor, other: Tensor) -> Tensor:
        """The stones of chains that have a liberty."""
        grown = self.beside(self.full & ~(stones | other)) & stones
        while True:
            more = grown | self.beside(grown) & stones
            if torch.equal(more, grown):
                return grown
            grown = more

    def positions(self) -> Iterator[Positions]:
        """All positions in which every chain has a liberty, those with most of foe's first."""
        masks = torch.arange(self.full + 1, dtype=torch.int32)
        for count in range(self.points - 1, -1, -1):
            free = torch.arange(1 << (self.points - count), dtype=torch.int32)
            for foe in masks[self.counts == count].split(max(1, 2**20 // len(free))):
                gaps = ((~foe & self.full).unsqueeze(1) >> torch.arange(self.points) & 1).nonzero()
                gaps = gaps[:, 1].view(len(foe), -1)
                bits = [(free >> i & 1) << gaps[:, i : i + 1] for i in range(gaps.shape[1])]
                own = torch.stack(bits).sum(0, dtype=torch.int32).flatten()
                foes = foe.repeat_interleave(len(free))
                legal = self.breathing(own, foes) == own
                legal &= self.breathing(foes, own) == foes
                yield own[legal], foes[legal]

    def moves(self, own: Tensor, foe: Tensor, suicide: bool) -> Iterator[tuple[Tensor, ...]]:
        """For each point: in which of the positions foe may move there, and own and foe after."""
        for point in range(self.points):
            games = ((own | foe) >> point & 1 == 0).nonzero().squeeze(1)
            after = foe[games] | 1 << point
            left = self.breathing(own[games], after)
            breathing = self.breathing(after, left)
            if not suicide:
                allowed = breathing == after
                games, left, after = games[allowed], left[allowed], after[allowed]
                breathing = after
            yield games, left, breathing


def capturable(board: SmallBoard, suicide: bool) -> Tensor:
    """(3^points,) int32, by ``code``: own stones that foe can capture, however long it takes."""
    found = torch.zeros(3**board.points, dtype=torch.int32)
    while True:
        before = found.clone()
        for own, foe in board.positions():
            codes, taken = board.code(own, foe), torch.zeros_like(own)
            for games, left, after in board.moves(own, foe, suicide):
                taken[games] |= own[games] & ~left | found[board.code(left, after)]
            found[codes] = taken
        # Without suicide foe's stones only grow in number, so one round sees all there is.
        if not suicide or torch.equal(found, before):
            return found
