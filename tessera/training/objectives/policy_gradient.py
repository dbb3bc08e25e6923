"""The objective ``policy_gradient``: the simple reference, without a search."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from tessera.model import GameModel
from tessera.play.evaluator import check_evaluator
from tessera.play.position_ring import Positions
from tessera.setting_errors import SettingError, number, problems_of, under, whole
from tessera.training.objectives.base import ObjectiveSettings
from tessera.training.objectives.expert_settings import (
    MATCHES,
    MOST_PLIES,
    MOST_ROWS,
    MOST_SLOTS,
    REUSE,
    ExpertIterationSettings,
)

if TYPE_CHECKING:
    from tessera.training.objectives.expert_iteration import ExpertIteration

_LEAST, _MOST = 1e-7, 0.2  # of a chance that was drawn from; change of it that is rewarded
_ALLOWED = {
    "slots": whole(1, MOST_SLOTS),
    "rows": whole(1, MOST_ROWS),
    "first_rows": whole(1, MOST_ROWS),
    "reuse": REUSE,
    "opening_plies": whole(0, MOST_PLIES),
    **MATCHES,
    "entropy_weight": number("at least 0", lambda weight: 0 <= weight < math.inf),
}


def gradient_loss(positions: Positions, logs: Tensor, won: Tensor, entropy_weight: float) -> Tensor:
    """What a policy gradient with a baseline makes smaller, (S,).

    How much better the game ended than the model had expected, times how much likelier the move has
    become since it was played; beyond a fifth more or less there is nothing left to gain, or a
    few old games would tear the weights apart. Less the weighted entropy; where the end is
    unknown, that alone.

    Args:
        positions: S of them; their weights are the policy that played.
        logs: (S, P + 1) float32, log-probabilities of the moves.
        won: (S,) float32, the model's log-odds of winning, the baseline.
        entropy_weight: of the entropy, which keeps a policy from being sure too soon.

    Source: Williams 1992 (REINFORCE with a baseline); the limit is that of Schulman et al. 2017.
    """
    before, allowed = positions.weights, positions.weights > 0
    # Of the moves that were looked at, as when one was drawn.
    logs = logs.masked_fill(~allowed, -math.inf).log_softmax(1).masked_fill(~allowed, 0)
    at = positions.actions.unsqueeze(1)
    ratios = (logs.gather(1, at) - before.gather(1, at).clamp(min=_LEAST).log()).squeeze(1).exp()
    wins, chances = positions.wins.nan_to_num(0), won.detach().sigmoid()
    gains = torch.where(positions.wins.isfinite(), 2 * (wins - chances), 0)
    kept = torch.minimum(gains * ratios, gains * ratios.clamp(1 - _MOST, 1 + _MOST))
    entropy = -(logs.exp() * logs * allowed).sum(1)
    return -kept - entropy_weight * entropy


@dataclass(frozen=True)
class PolicyGradientSettings(ObjectiveSettings):
    """Settings of the objective policy_gradient.

    Args:
        slots: games at once, on each device; moves are drawn from the model's policy.
        reuse: how often a position is trained on, on average.
        rows: plies of all slots that are kept: more than a game has, or its first ones are lost.
        first_rows: plies before the first step.
        opening_plies: half of the games begin with up to so many plies of the rule-based player.
        entropy_weight: of the entropy of the policy in the loss.
        match_pairs, match_simulations, match_playouts, pool: as of expert_iteration.
    """

    slots: int = 256
    reuse: float = 1.0
    rows: int = 128
    first_rows: int = 64
    opening_plies: int = 20
    entropy_weight: float = 0.01
    match_pairs: int = 0
    match_simulations: int = 0
    match_playouts: int = 0
    pool: int = 8

    keeps_games: ClassVar[bool] = True
    free: ClassVar[tuple[str, ...]] = (
        *("opening_plies", "entropy_weight"),
        *("match_pairs", "match_simulations", "match_playouts", "pool"),
    )

    def build(self, model: GameModel) -> ExpertIteration:
        """See ``ObjectiveSettings.build``."""
        own: dict[str, Any] = asdict(self)
        weight = own.pop("entropy_weight")
        if problems := problems_of(SimpleNamespace(**asdict(self)), _ALLOWED):
            with under("policy_gradient"):
                raise SettingError(*problems)
        check_evaluator(model)
        from tessera.training.objectives.expert_iteration import ExpertIteration

        # A search of no simulations draws from the policy itself, at every ply.
        settings = ExpertIterationSettings(
            **own,
            simulations=0,
            fast_simulations=0,
            full_share=1.0,
            window_share=1.0,
            temperature_plies=0,
            value_share=0.0,
        )
        return ExpertIteration(model, settings, partial(gradient_loss, entropy_weight=weight))
