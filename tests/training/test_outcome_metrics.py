"""The figures of an outcome against plain loops, over two batches, and PAD in neither."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tessera.model import Outcome
from tessera.training.outcome_metrics import OUTCOME_METRICS, OutcomeMetrics


def batch(seed: int) -> tuple[Outcome, Tensor, Tensor]:
    """Wins, draws and losses, and NaN where nothing is counted."""
    generator = torch.Generator().manual_seed(seed)
    win = torch.rand(5, 40, generator=generator)
    win[0, :3] = torch.tensor([0.0, 1.0, 0.5])
    score = 8 * torch.randn(5, 40, generator=generator)
    scores = torch.randint(-9, 10, (5, 40), generator=generator).float()
    counted = torch.rand(5, 40, generator=generator) < 0.8
    counted[0, :3] = True
    win, score = (each.masked_fill(~counted, torch.nan) for each in (win, score))
    return Outcome(win, score), scores, counted


def by_hand(batches: list[tuple[Outcome, Tensor, Tensor]]) -> dict[str, float]:
    found = [
        (q, score, points, 1.0 if points > 0 else 0.5 if points == 0 else 0.0)
        for outcome, scores, counted in batches
        for q, score, points in zip(
            outcome.win[counted].tolist(),
            outcome.score[counted].tolist(),
            scores[counted].tolist(),
            strict=True,
        )
    ]
    count = len(found)
    mean_win = sum(w for *_, w in found) / count
    mean_score = sum(points for *_, points, _ in found) / count
    calibration = 0.0
    for nth in range(20):
        own = [(q, w) for q, *_, w in found if min(19, int(q * 20)) == nth]
        if own:
            gap = sum(q for q, _ in own) / len(own) - sum(w for _, w in own) / len(own)
            calibration += abs(gap) * len(own) / count
    values = (
        sum((q - w) ** 2 for q, *_, w in found) / count,
        sum((mean_win - w) ** 2 for *_, w in found) / count,
        calibration,
        math.sqrt(sum((score - points) ** 2 for _, score, points, _ in found) / count),
        math.sqrt(sum((mean_score - points) ** 2 for *_, points, _ in found) / count),
    )
    return dict(zip(OUTCOME_METRICS, values, strict=True))


def test_the_figures_are_those_of_plain_loops() -> None:
    metrics, batches = OutcomeMetrics(), [batch(1), batch(2)]
    for each in batches:
        metrics.update(*each)
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx(by_hand(batches), abs=1e-6)


def test_one_who_means_what_it_says_has_no_calibration_error() -> None:
    metrics = OutcomeMetrics()
    win = torch.tensor([[0.25] * 4 + [0.75] * 4])
    scores = torch.tensor([[1.0, -1, -1, -1, 1, 1, 1, -1]])
    metrics.update(Outcome(win, scores), scores, torch.ones_like(win, dtype=torch.bool))
    found = metrics.compute()
    assert float(found["win_ece"]) == pytest.approx(0, abs=1e-7)
    assert float(found["win_brier"]) < float(found["win_brier_base"])
    assert float(found["score_rmse"]) == 0
