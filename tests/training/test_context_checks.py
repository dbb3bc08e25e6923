"""Checks of contexts say what they say of recurrences whose behaviour is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.training.context_checks import (
    CONVERGED_BELOW,
    SweptRecurrence,
    by_sweep,
    by_token,
    change,
    converged_ratio,
    identity_of,
    memory_tokens,
    ranks_of,
    repeated,
    verdict,
)

GAMES, LENGTH, WIDTH = 3, 24, 16


class Linear:
    """``c_i = factor · c_{i−1} + e_i``: forgets by the factor at every token."""

    def __init__(self, factor: float, length: int = LENGTH) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(GAMES, length, WIDTH, generator=generator)
        self.factor = factor
        self.counted_BL = torch.ones(GAMES, length, dtype=torch.bool)
        self.counted_BL[-1, length // 2 :] = False

    def sequential(self, memory: Any = None) -> tuple[Tensor, Any]:
        context = torch.zeros(GAMES, WIDTH) if memory is None else memory
        found = []
        for at in range(self.inputs.shape[1]):
            after = self.factor * context + self.inputs[:, at]
            context = torch.where(self.counted_BL[:, at, None], after, context)
            found.append(context)
        return torch.stack(found, 1), context

    def sweep(self, previous_BLC: Tensor) -> Tensor:
        before = torch.nn.functional.pad(previous_BLC[:, :-1], (0, 0, 1, 0))
        return self.factor * before + self.inputs


def test_the_change_is_relative_and_of_counted_positions() -> None:
    torch.manual_seed(0)
    vectors = torch.nn.functional.layer_norm(torch.randn(2, 5, 64), (64,))
    counted = torch.ones(2, 5, dtype=torch.bool)
    counted[1, 3:] = False
    moved = vectors + 0.1
    found = change(vectors, moved, counted)
    torch.testing.assert_close(found, torch.full((2, 5), 0.01 / 1.01).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(change(7 * vectors, 7 * moved, counted), found)
    assert (change(vectors, vectors, counted) == 0).all()
    torch.testing.assert_close(
        change(torch.zeros_like(vectors), vectors, counted)[counted].mean(),
        torch.tensor(1.0).double(),
    )
    assert (change(0 * vectors, 0 * vectors, counted) == 0).all()
    found[0, 0], found[1, 4] = 1, 1
    assert converged_ratio(found, counted) == pytest.approx(7 / 8)


def test_after_k_sweeps_k_positions_are_exact_and_those_that_forget_need_few() -> None:
    recurrence = Linear(1.0)  # never forgets
    assert isinstance(recurrence, SweptRecurrence)
    truth, _ = recurrence.sequential()
    previous = torch.zeros_like(truth)
    for sweep in range(1, LENGTH + 1):
        previous = recurrence.sweep(previous)
        right = (previous[:2] == truth[:2]).all(-1)
        assert right[:, :sweep].all()
        assert not right[:, sweep:].any()
    rates = by_sweep(recurrence, LENGTH + 1)
    changed, near = zip(*rates, strict=True)
    assert changed[-1] == near[-1] == near[-2] == 1 and near[5] < 0.6
    assert list(near) == sorted(near)
    forgets = by_sweep(Linear(0.3), 6)
    # 0.3² to the fourth is below 0.03: what comes later changes nothing that is seen.
    assert forgets[0][0] < 0.2 and forgets[4] == (1, 1)


def test_passes_differ_as_long_as_the_start_is_remembered() -> None:
    for factor, expected in ((0.0, 0), (0.5, 3), (0.9, 17)):
        recurrence = Linear(factor)
        changes = repeated(recurrence, 4)
        assert len(changes) == 3
        along = by_token(changes[0], recurrence.counted_BL)
        if factor:
            # Each token takes the same factor of what is left of the start.
            ratios = along[1 : LENGTH // 2] / along[: LENGTH // 2 - 1]
            torch.testing.assert_close(
                ratios, torch.full_like(ratios, factor**2), rtol=1e-3, atol=0
            )
        found = memory_tokens(along)
        assert found is not None and abs(found - expected) <= 3
    assert memory_tokens(by_token(repeated(Linear(1.0), 2)[0], Linear(1.0).counted_BL)) is None


def test_games_that_are_over_do_not_count_by_token() -> None:
    recurrence = Linear(0.5)
    changes = torch.arange(GAMES * LENGTH, dtype=torch.float64).view(GAMES, LENGTH)
    found = by_token(changes, recurrence.counted_BL)
    torch.testing.assert_close(found[0], changes[:, 0].mean())
    torch.testing.assert_close(found[-1], changes[:2, -1].mean())
    none = by_token(changes, torch.zeros_like(recurrence.counted_BL))
    assert (none == 0).all()


def test_memory_ends_behind_the_last_token_that_still_differs() -> None:
    low, high = CONVERGED_BELOW / 2, 2 * CONVERGED_BELOW
    assert memory_tokens(torch.tensor([high, high, low, low])) == 2
    assert memory_tokens(torch.tensor([high, low, high, low])) == 3
    assert memory_tokens(torch.tensor([low, low])) == 0
    assert memory_tokens(torch.tensor([low, high])) is None


def test_verdicts_are_the_published_ones() -> None:
    for changes, word, code in (
        ([0.5 - 0.05 * n for n in range(9)], "CONVERGING", -1),
        ([0.1] * 9, "CONVERGED", 0),
        ([0.1 + 0.002 * n for n in range(9)], "DIVERGING", 1),
        ([0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1], "UNSTABLE", 2),
    ):
        found = verdict(changes)
        assert (found.word, found.code) == (word, code)
    assert verdict([0.0, 0.002, 0.004]).slope == pytest.approx(0.002)


def test_whatever_forgets_has_converged_however_little_it_learned() -> None:
    """What is wrong with the verdict: it asks for forgetting, not for a context worth keeping."""
    for factor in (0.0, 0.5, 0.8):
        recurrence = Linear(factor, 400)
        changes = repeated(recurrence)
        means = [float(each[recurrence.counted_BL].mean()) for each in changes]
        assert verdict(means).word == "CONVERGED" and means[-1] < 1e-6


def test_the_identity_check() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(500, WIDTH)
    normed = torch.nn.functional.layer_norm(inputs, (WIDTH,))
    found = identity_of(normed, normed)
    # LayerNorm's length is the root of the width, so that this test cannot fail behind one.
    assert found.norm == pytest.approx(math.sqrt(WIDTH), rel=1e-3)
    assert not found.is_degenerate and found.is_copy and found.cosine == pytest.approx(1)
    same = identity_of(normed[:1].expand(500, -1) + 1e-3 * inputs)
    assert same.is_degenerate and same.spread_ratio < 0.01 and same.cosine is None
    assert not same.is_copy
    other = identity_of(normed, torch.randn(500, WIDTH))
    assert other.cosine is not None and abs(other.cosine) < 0.1 and not other.is_copy
    assert identity_of(normed, torch.randn(500, 2 * WIDTH)).cosine is None
    nothing = identity_of(torch.zeros(9, WIDTH))
    assert nothing.is_degenerate and nothing.spread_ratio == 0


def test_ranks_are_of_the_same_rows_and_say_how_many() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(1000, WIDTH) + 5
    found = ranks_of(vectors, 300, seed=1)
    assert (found.rows, found.width) == (300, WIDTH) and found == ranks_of(vectors, 300, seed=1)
    assert found != ranks_of(vectors, 300, seed=2)
    assert 1 < found.rank < found.centred < WIDTH
    assert ranks_of(vectors, 10**6).rows == 1000
    # Fewer rows have a smaller rank, of the very same vectors.
    assert ranks_of(vectors, 20).centred < found.centred - 1
