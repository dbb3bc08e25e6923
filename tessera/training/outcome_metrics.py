"""How good a model's expectation of a game's end is, and whether its probabilities mean it.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tessera.model import Outcome
from tessera.transfers import to_host

OUTCOME_METRICS = ("win_brier", "win_brier_base", "win_ece", "score_rmse", "score_rmse_base")
_BINS = 20  # of the win probability
_NUM_SUMS = 7


class OutcomeMetrics(Metric):
    """Means over all positions of the batches seen, seen from the player to move; PAD never counts.

    =====================  =========================================================================
    ``win_brier``          (q - w)², q the win probability, w 1 for a win, ½ a draw, 0 a loss
    ``win_brier_base``     the same for a model that always says how often the player to move wins
    ``win_ece``            expected calibration error: over 20 bins of q, weighted by their sizes,
                           how far the mean q of a bin is from the mean w in it
    ``score_rmse``         root of the mean squared error of the score, in points
    ``score_rmse_base``    the same for a model that always says the mean score
    =====================  =========================================================================

    Nothing waits for the GPU before ``compute``, and the same batches give the same bits. Healthy:
    both errors below those of their bases, and the calibration error near 0. Source: Brier 1950;
    Naeini, Cooper and Hauskrecht 2015 for the calibration error.

    Args:
        kwargs: those of every ``torchmetrics.Metric``, such as ``sync_on_compute``.
    """

    full_state_update = False
    sums: Tensor
    bins: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, size in (("sums", _NUM_SUMS), ("bins", 3 * _BINS)):
            zeros = torch.zeros(size, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, outcome: Outcome, scores: Tensor, counted: Tensor) -> None:
        """Add a batch.

        Args:
            outcome: as expected, (B, L).
            scores: (B, L) float32, as it was, in points.
            counted: (B, L) bool, False at PAD.
        """
        win, wins = outcome.win.double(), (scores.sign().double() + 1) / 2
        error = (outcome.score - scores).double()
        values = (
            *(torch.ones_like(win), (win - wins) ** 2, wins, wins**2),
            *(error**2, scores, scores**2),
        )
        sums = [torch.where(counted, value.double(), 0.0).sum() for value in values]
        self.sums += torch.stack(sums)
        which = (win * _BINS).long().clamp(0, _BINS - 1)
        places = torch.arange(_BINS, device=win.device)[:, None, None]
        member = (which == places) & counted
        for nth, value in enumerate((torch.ones_like(win), win, wins)):
            # A sum of every bin over all positions: scattering would add them in any order.
            self.bins[nth * _BINS : (nth + 1) * _BINS] += torch.where(member, value, 0.0).sum(
                (1, 2)
            )

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name, float32 scalars on the host; none without a position."""
        together = to_host(torch.cat([self.sums, self.bins]), "validation")
        sums, bins = together[: len(self.sums)], together[len(self.sums) :].view(3, _BINS)
        count = sums[0]
        if count == 0:
            return {}
        brier, wins, wins_square, error, score, score_square = sums[1:] / count
        sizes, expected, found = bins
        values = (
            brier,
            wins_square - wins**2,
            (expected - found).abs().sum() / sizes.sum(),
            error.sqrt(),
            (score_square - score**2).clamp(min=0).sqrt(),
        )
        return {name: value.float() for name, value in zip(OUTCOME_METRICS, values, strict=True)}
