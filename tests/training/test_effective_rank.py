"""The effective rank: its range, its known values, and which rows it is taken of."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.training.effective_rank import chosen_rows, effective_rank


def test_known_values() -> None:
    assert float(effective_rank(torch.eye(7))) == pytest.approx(7)
    assert float(effective_rank(torch.ones(5, 3))) == pytest.approx(1)
    values = torch.tensor([3.0, 1.0])
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    turn = torch.linalg.qr(torch.randn(2, 2)).Q
    assert float(effective_rank(turn * values)) == pytest.approx(expected)
    assert float(effective_rank(torch.zeros(4, 3))) == 0
    assert float(effective_rank(torch.ones(4, 3), centred=True)) == 0


def test_a_scale_makes_no_difference_and_a_mean_does() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(400, 16)
    rank = effective_rank(vectors)
    assert 15 < rank < 16
    torch.testing.assert_close(effective_rank(1000 * vectors), rank)
    moved = vectors + 50
    assert effective_rank(moved) < 6
    torch.testing.assert_close(
        effective_rank(moved, centred=True),
        effective_rank(vectors, centred=True),
        atol=1e-4,
        rtol=0,
    )


def test_the_rows_are_the_same_ones_each_time() -> None:
    rows = chosen_rows(1000, 50, seed=3)
    assert torch.equal(rows, chosen_rows(1000, 50, seed=3))
    assert len(set(rows.tolist())) == 50 and rows.tolist() == sorted(rows.tolist())
    assert not torch.equal(rows, chosen_rows(1000, 50, seed=4))
    assert chosen_rows(7, 50).tolist() == list(range(7))
