"""The planes of a position: drawn by hand, and the territory tendency measured point by point."""

from __future__ import annotations

import itertools

import pytest
import torch

from tessera.model.features.planes import board_planes, nearer, unpacked

REACH = 4


@pytest.mark.parametrize("size", [2, 5, 9, 19])
def test_a_point_tends_to_whose_stone_is_fewer_steps_away(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    own, other = (torch.rand(6, size, size, generator=generator) < 0.06 for _ in range(2))
    other &= ~own
    columns = 1 << torch.arange(size)
    rows, others = ((stones * columns).sum(2).int() for stones in (own, other))
    for first, second, a, b in ((rows, others, own, other), (others, rows, other, own)):
        found = unpacked(nearer(first, second))
        for board, row, column in itertools.product(range(6), range(size), range(size)):
            steps = [
                min(
                    (abs(row - y) + abs(column - x) for y, x in stones[board].nonzero()), default=99
                )
                for stones in (a, b)
            ]
            expected = steps[0] <= REACH and steps[0] < steps[1]
            assert found[board, row, column] == expected, (board, row, column)


def test_the_planes_of_a_drawn_position() -> None:
    # Own stones at A3 and B3, the opponent's at A1; C2 was played last, and taken; B1 is forbidden.
    sets = torch.tensor([[[3, 0, 0], [0, 0, 1], [0, 0, 1], [0, 4, 0], [0, 0, 2]]]).int()
    planes = board_planes(sets, torch.tensor([5]), torch.float32)[0].permute(2, 0, 1)
    expected = [
        [[1, 1, 0], [0, 0, 0], [0, 0, 0]],  # own
        [[0, 0, 0], [0, 0, 0], [1, 0, 0]],  # the opponent's
        [[0, 0, 1], [1, 1, 1], [0, 1, 1]],  # empty
        [[0, 0, 0], [0, 0, 0], [1, 0, 0]],  # in atari
        [[0, 0, 0], [0, 0, 1], [0, 0, 0]],  # taken
        [[0, 0, 0], [0, 0, 0], [0, 1, 0]],  # forbidden
        [[0, 0, 0], [0, 0, 1], [0, 0, 0]],  # the last move
        [[1, 1, 1], [0, 1, 1], [-1, -1, -1]],  # nearer; A2 is as far from both
    ]
    own, other, atari, taken, forbidden, empty, last, tendency = planes[:8].tolist()
    found = [own, other, empty, atari, taken, forbidden, last, tendency]
    assert found == [[[float(x) for x in row] for row in plane] for plane in expected]
    torch.testing.assert_close(planes[8], torch.full((3, 3), 1 / 3))  # a stone ahead, over 3
    # A pass is on no point.
    assert not board_planes(sets, torch.tensor([9]), torch.float32)[..., 6].any()
