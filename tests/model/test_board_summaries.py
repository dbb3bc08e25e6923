"""What a position's vector and map are told of the whole board, and of the last move's point."""

from __future__ import annotations

import torch

from tessera.model.features.board import BoardFeatures

SIZE = 3
POINTS = SIZE**2


def test_each_point_is_told_the_mean_and_the_greatest_of_the_whole_board() -> None:
    torch.manual_seed(0)
    features = BoardFeatures(4, POINTS + 3, channels=2, depth=1, pooled=1)
    sets = torch.tensor([[[[3, 0, 1], [4, 2, 0], [0, 0, 0], [0, 0, 0], [0, 0, 4]]]]).int()
    arguments = ((sets,), torch.tensor([[7]]), torch.zeros(1, 1, dtype=torch.bool), ())
    with torch.no_grad():
        # So that no value of the map is cut off where nothing is told.
        for convolution in (features.first, *features.rest):
            convolution.bias.fill_(5.0)
        (overall,) = features.overall
        for parameter in overall.parameters():
            parameter.zero_()
        before = features.encode(*arguments)[0].map
        assert bool((before > 0).all())
        # The first channel is told the mean of the second one, this the greatest of the first.
        overall.weight[0, 1] = overall.weight[1, 2] = 1
        added = features.encode(*arguments)[0].map - before
    values = before.flatten(0, -2)
    torch.testing.assert_close(added[..., 0], values[:, 1].mean().expand_as(added[..., 0]))
    torch.testing.assert_close(added[..., 1], values[:, 0].amax().expand_as(added[..., 1]))
    assert values[:, 0].amax() > values[:, 0].amin() + 0.1


def test_a_pooled_vector_has_the_last_moves_point_and_nothing_after_a_pass() -> None:
    features = BoardFeatures(4, POINTS + 3, channels=2, depth=1, squeeze=2, summary="pooled")
    squeezed = (
        torch.arange(1.0, POINTS * 2 + 1).view(1, SIZE, SIZE, 2).expand(POINTS + 3, -1, -1, -1)
    )
    summed = features._summed(squeezed, torch.arange(POINTS + 3))
    torch.testing.assert_close(summed[:, :2], squeezed.flatten(1, 2).mean(1))
    assert torch.equal(summed[:POINTS, 2:], squeezed[0].flatten(0, 1))
    assert not summed[POINTS:, 2:].any()
