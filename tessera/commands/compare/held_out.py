"""What a run's model knows of games that it never trains on: along the way, and at the end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tessera.commands.compare.pace import Pace
from tessera.training.metrics import GROUPS, NextMoveMetrics, group_names
from tessera.transfers import to_host

_FIGURES = ("loss", "floor_nats", "excess_nats", "legal_mass", "legal_top1")
_OF_GROUPS = ("excess_nats", "legal_mass", "legal_top1")
_DIGITS = 6  # of a game's sum, in nats


@dataclass(frozen=True)
class Reading:
    """What was measured on one set of games.

    Attributes:
        figures: of all targets; excess_se is the standard error of excess_nats over games.
        captures: the same by stones captured before the target.
        excess_sum: nats of every game, in the games' order.
        tokens: targets of every game.
    """

    figures: Mapping[str, float]
    captures: Sequence[Mapping[str, float | None]]
    excess_sum: Sequence[float]
    tokens: Sequence[int]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in result.json."""
        return {
            "figures": dict(self.figures),
            "captures": [dict(group) for group in self.captures],
            "per_game": {"excess_sum": list(self.excess_sum), "tokens": list(self.tokens)},
        }


class HeldOut(Callback):
    """Validates at some steps, and keeps what each validation and each test finds.

    Args:
        points: optimizer steps behind which there is a validation.
        pace: of the same run.

    Attributes:
        curve: a point for each validation, the first step first.
        newest: of the newest validation or test; None before the first.
    """

    def __init__(self, points: Sequence[int], pace: Pace) -> None:
        self.points, self._pace = frozenset(points), pace
        self.curve: list[dict[str, float | None]] = []
        self.newest: Reading | None = None
        self._step = 0
        self._pause = contextlib.ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """No validation before the first point."""
        self._step = trainer.global_step
        trainer.val_check_batch = math.inf

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Have Lightning validate behind this batch, if there is a point here."""
        is_step = trainer.global_step != self._step
        self._step = trainer.global_step
        is_point = is_step and self._step in self.points
        trainer.val_check_batch = 1 if is_point else math.inf
        if is_point:
            self._pause.enter_context(self._pace.paused(pl_module.device))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep every game's sums."""
        metrics_of(pl_module).games = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metrics before the module begins them anew."""
        self.newest = _read(metrics_of(pl_module))
        if trainer.state.fn != "fit":
            return
        seconds, found = self._pace.seconds, self.newest.figures
        self.curve.append(
            {
                "step": trainer.global_step,
                "tokens": self._pace.tokens,
                "seconds": seconds,
                "loss": found.get("loss"),
                "excess_nats": found.get("excess_nats"),
            }
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on training."""
        self._pause.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep every game's sums."""
        metrics_of(pl_module).games = []

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metrics before the module begins them anew."""
        self.newest = _read(metrics_of(pl_module))

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on takes over."""
        return {"curve": self.curve}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.curve = state_dict["curve"]


def validation_points(num_steps: int, number: int) -> list[int]:
    """So many steps, or fewer, that grow by about the same factor and end with the last step."""
    first = max(1, num_steps >> (number - 1))
    ratio = (num_steps / first) ** (1 / max(1, number - 1))
    return sorted({round(first * ratio**nth) for nth in range(number)} | {num_steps})


def metrics_of(module: LightningModule) -> NextMoveMetrics:
    """The metrics that a module measures its predictions of moves by."""
    return next(part for part in module.modules() if isinstance(part, NextMoveMetrics))


def _read(metrics: NextMoveMetrics) -> Reading:
    assert metrics.games is not None
    games = to_host(torch.cat(metrics.games, 1), "validation")
    metrics.games = None
    values = {name: float(value) for name, value in metrics.compute().items()}
    figures = {name: values[name] for name in _FIGURES if name in values}
    error = _standard_error(*games)
    if error is not None:
        figures["excess_se"] = error
    sizes = metrics.group_sizes("captures")
    captures = [
        {
            "captured_from": low,
            "captured_to": high,
            "positions": sizes[name],
            **{what: values.get(f"{what}_by_captures/{name}") for what in _OF_GROUPS},
        }
        for low, high, name in _groups()
        if sizes[name]
    ]
    sums = [round(value, _DIGITS) for value in games[0].tolist()]
    return Reading(figures, captures, sums, [int(count) for count in games[1].tolist()])


def _groups() -> list[tuple[int, int | None, str]]:
    """Lowest and highest number of captured stones, the latter None for any, and the name."""
    bounds = GROUPS["captures"]
    highest = [*(bound - 1 for bound in bounds[1:]), None]
    return list(zip(bounds, highest, group_names(bounds), strict=True))


def _standard_error(sums: Tensor, counts: Tensor) -> float | None:
    """Of a mean over targets, because whole games were drawn; None of fewer than two games."""
    games = len(sums)
    if games < 2:
        return None
    mean = sums.sum() / counts.sum()
    spread = ((sums - mean * counts) ** 2).sum() * games / (games - 1)
    return float(spread.sqrt() / counts.sum())
