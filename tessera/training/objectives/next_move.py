"""The objective ``next_move``: predict the next token of a game, and what else the model has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tessera.data import GameBatch
from tessera.model import GameModel
from tessera.training.calibration import Calibration, CalibrationMetrics
from tessera.training.metrics import NextMoveMetrics
from tessera.training.objectives.base import Objective, ObjectiveSettings
from tessera.training.outcome_metrics import OutcomeMetrics
from tessera.transfers import to_host

FIGURES = ("loss", "floor_nats", "excess_nats")
_OF_OUTCOME = ("win_loss", "score_loss")


class NextMove(Objective):
    """The mean cross-entropy of the targets in nats, the outcome's losses, weighted, and penalties.

    Args:
        model: which is to learn it.
    """

    def __init__(self, model: GameModel) -> None:
        super().__init__()
        features = model.features
        self._features = "none" if features is None else features.table
        self.needs = () if features is None else features.needs
        self.held_out_needs = (*NextMoveMetrics.needs, *CalibrationMetrics.needs, *self.needs)
        self.held_out_metrics = NextMoveMetrics()
        self.outcome_metrics = None if model.outcome is None else OutcomeMetrics()
        self.calibration_metrics = CalibrationMetrics()
        self._names = (
            FIGURES[0],
            *(() if model.outcome is None else _OF_OUTCOME),
            *model.blocks.penalty_names,
        )
        self._pad_token = model.pad_token
        self._newest: tuple[GameBatch, Tensor] | None = None  # the batch, and its mean losses

    def loss(self, model: GameModel, batch: GameBatch) -> Tensor:
        """See ``Objective.loss``."""
        self._newest = None  # the batch before this one may hold on to games that are over
        is_penalized = bool(model.blocks.penalty_names)
        beside = self._beside(model, batch)
        losses = model(batch.inputs, batch.targets, penalized=is_penalized, **beside)
        return self._total(model, batch, losses)

    def _total(self, model: GameModel, batch: GameBatch, losses: Tensor) -> Tensor:
        """The weighted sum of the mean losses, which are kept with the batch.

        Args:
            model: whose losses these are.
            batch: of these targets.
            losses: (B, L), or (…, B, L) of the moves, of the outcome and of the penalties.
        """
        count = (batch.targets != model.pad_token).sum()
        # One number, or one for each of the model's losses and penalties.
        means = (losses.sum() if losses.dim() == 2 else losses.sum((1, 2))) / count
        self._newest = batch, means.detach()
        if losses.dim() == 2:
            return means
        total = means[0]
        if model.outcome is not None:
            win_weight, score_weight = model.outcome.weights
            total = total + win_weight * means[1] + score_weight * means[2]
        return total + means[-1] if model.blocks.penalty_names else total

    def figures(self, owner: str) -> dict[str, Tensor]:
        """The newest training batch's loss, floor_nats and excess_nats.

        Of a model with an outcome also win_loss and score_loss, see ``OutcomeHead.losses``; of one
        with penalties each of them, such as effective_rank, and penalty, what they add to the loss.
        """
        if self._newest is None:
            return {}
        batch, means = self._newest[0], self._newest[1].reshape(-1)
        # Log-probabilities and entropies are 0 at PAD.
        count = (batch.targets != self._pad_token).sum()
        floor = batch.entropies.sum() / count
        excess = means[0] + batch.log_probs.sum() / count
        found = torch.cat([means, torch.stack([floor, excess])])
        return dict(zip((*self._names, *FIGURES[1:]), to_host(found, owner), strict=True))

    def launch(self, model: GameModel, batch: GameBatch) -> None:
        """See ``GameModel.launch_training``."""
        model.launch_training(batch.inputs, batch.targets, **self._beside(model, batch))

    def forget(self) -> None:
        """See ``Objective.forget``."""
        self._newest = None

    def measure(self, model: GameModel, batch: GameBatch) -> None:
        """Add a batch to the metrics."""
        tables, excluded = batch.features(self._features), batch.settled
        if self.outcome_metrics is None:
            logits = model(batch.inputs, None, tables, excluded=excluded)
        else:
            logits, outcome = model.outlook(batch.inputs, tables, excluded)
            counted = batch.targets != model.pad_token
            self.outcome_metrics.update(outcome, batch.scores(), counted)
        self.held_out_metrics.update(logits, batch)
        self.calibration_metrics.update(logits, batch)

    def measured(self) -> dict[str, Tensor]:
        """The metrics, see ``NextMoveMetrics``, ``OutcomeMetrics`` and ``Calibration``."""
        values = self.held_out_metrics.compute()
        self.held_out_metrics.reset()
        if self.outcome_metrics is not None:
            values |= self.outcome_metrics.compute()
            self.outcome_metrics.reset()
        self.calibration = Calibration.of(self.calibration_metrics.compute())
        self.calibration_metrics.reset()
        if self.calibration is not None:
            found = self.calibration.metrics()
            values |= {name: torch.tensor(value) for name, value in found.items()}
        return values

    def _beside(self, model: GameModel, batch: GameBatch) -> dict[str, Any]:
        """What the losses are made of beside inputs and targets, see ``GameModel.forward``."""
        return {
            "features": batch.features(self._features),
            "scores": None if model.outcome is None else batch.scores(),
            "excluded": batch.settled,
        }


@dataclass(frozen=True)
class NextMoveSettings(ObjectiveSettings):
    """There is nothing to set."""

    predicts_moves: ClassVar[bool] = True

    def build(self, model: GameModel) -> NextMove:
        """See ``ObjectiveSettings.build``."""
        return NextMove(model)
