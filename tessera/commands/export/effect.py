"""What a model's rounding does to what it says, on games that training never sees.

Shapes: B sequences, L positions, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tessera.companion import of_checkpoint
from tessera.data import GameDataModule, GameStream
from tessera.data.stream import TEST_NUMBERS
from tessera.model import GameModel
from tessera.vocabulary import Vocabulary, board_size_of

_MOST_AT_ONCE = 8  # games


@dataclass(frozen=True, slots=True)
class Effect:
    """How a rounded model differs from the one that it was.

    Attributes:
        games: of the test, which the player of the model's games played.
        targets: moves and ends of games that were predicted.
        loss_before: mean of -log q(target) in nats.
        loss_after: that of the rounded model.
        kl: mean over the same positions of the Kullback-Leibler divergence in nats of the rounded
            model's distribution from the other one's.
        largest_kl: the largest of them.
    """

    games: int
    targets: int
    loss_before: float
    loss_after: float
    kl: float
    largest_kl: float

    def is_finite(self) -> bool:
        """Whether all of it could be measured."""
        figures = (self.loss_before, self.loss_after, self.kl, self.largest_kl)
        return all(map(math.isfinite, figures))


def measure_effect(
    before: Mapping[str, Any], after: Mapping[str, Any], num_games: int, device: torch.device
) -> Effect:
    """Let both models predict the same games of the test.

    Args:
        before: the checkpoint's content.
        after: that of the exported file.
        num_games: how many games.
        device: where they are played and predicted.
    """
    models = [of_checkpoint(each, device).model for each in (before, after)]
    stream = _test_games(before, models[0], num_games, device)
    # Targets, losses, divergences in double precision; the largest divergence.
    sums, largest = torch.zeros(4, dtype=torch.float64), 0.0
    for batch in stream:
        counted = batch.targets != Vocabulary(stream.settings.board_size).pad_token
        tables = batch.features(_table_of(models[0]))
        log_p, log_q = (
            model(batch.inputs, None, tables, excluded=batch.settled)[counted]
            .double()
            .log_softmax(-1)
            for model in models
        )
        targets = batch.targets[counted][:, None]
        losses = [-each.gather(-1, targets).sum() for each in (log_p, log_q)]
        kl = divergence(log_p, log_q)
        sums += torch.stack([counted.sum().double(), *losses, kl.sum()]).cpu()
        largest = max(largest, kl.max().item())
    count, before_sum, after_sum, kl_sum = sums.tolist()
    means = before_sum / count, after_sum / count, kl_sum / count
    return Effect(num_games, int(count), *means, largest)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of q from p in nats, at least 0.

    Args:
        log_p: (…, V), minus infinity where p is 0.
        log_q: the same of q.
    """
    parts = torch.where(log_p > -math.inf, log_p.exp() * (log_p - log_q), 0.0)
    return parts.sum(-1).clamp(min=0)


def _test_games(
    checkpoint: Mapping[str, Any], model: GameModel, num_games: int, device: torch.device
) -> GameStream:
    """Batches of the games, whole or in windows, as a test would have them."""
    size = board_size_of(model.vocab_size)
    given = {**checkpoint.get("datamodule_hyper_parameters", {}), "backend": "auto"}
    settings = GameDataModule(**{**given, "board_size": size}).settings
    at_once = max(n for n in range(1, _MOST_AT_ONCE + 1) if num_games % n == 0)
    settings = replace(
        settings, games_per_chunk=num_games, batch_size=at_once * settings.num_windows
    )
    needs = {"settled"} if settings.skip_settled else set()
    needs |= set() if model.features is None else {*model.features.needs}
    return GameStream(
        settings,
        device=device,
        first_number=TEST_NUMBERS,
        num_batches=num_games // at_once,
        needs=sorted(needs),
    )


def _table_of(model: GameModel) -> str:
    return "none" if model.features is None else model.features.table
