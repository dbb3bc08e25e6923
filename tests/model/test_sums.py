"""Running sums against torch's, their gradients, and their bits."""

from __future__ import annotations

import pytest
import torch

from tessera.model.scans.sums import running_sums


@pytest.mark.parametrize("length", [1, 2, 3, 64, 129])
def test_they_are_the_sums_and_so_are_their_gradients(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(2, length, 3, dtype=torch.float64, generator=generator)
    weights = torch.randn(2, length, 3, dtype=torch.float64, generator=generator)
    for axis, own in ((1, x), (2, x.transpose(1, 2)), (0, x.transpose(0, 1))):
        torch.testing.assert_close(running_sums(own, axis), own.cumsum(axis))
    found = []
    for sums in (running_sums, lambda own: own.cumsum(1)):
        leaf = x.clone().requires_grad_()
        (sums(leaf) * weights).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)


def test_long_sums_of_float32_lose_less_than_a_plain_walk() -> None:
    x = torch.full((1, 100_000), 0.1)
    expected = 0.1 * torch.arange(1, 100_001, dtype=torch.float64)
    assert float((running_sums(x)[0] / expected - 1).abs().max()) < 1e-6
