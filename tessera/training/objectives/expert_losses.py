"""What self-play makes smaller: the losses of positions of which a search and the end are known.

Shapes: S positions, P = n² points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.model import GameModel
from tessera.play.position_ring import Positions

LOSSES = ("policy_loss", "win_loss", "score_loss", "ownership_loss")
PolicyLoss: TypeAlias = Callable[[Positions, Tensor, Tensor], Tensor]


def imitation_loss(positions: Positions, logs: Tensor, won: Tensor) -> Tensor:
    """The cross-entropy of what the search would play, (S,) in nats."""
    return -(positions.weights * logs).sum(1)


def losses_of(
    model: GameModel,
    positions: Positions,
    policy_loss: PolicyLoss,
    value_share: float,
    has_others: bool | int,
) -> Tensor:
    """The four losses (4,), each the mean of the positions that have one; see ``LOSSES``.

    Args:
        model: in training, with an outcome.
        positions: S of them.
        policy_loss: (S,) of positions, log-probabilities of the moves and log-odds of winning.
        value_share: of the search's own value in the chance of winning.
        has_others: whether some were played by others, of whose plies no policy is learned: their
            weights are 0.
    """
    head = model.outcome
    assert head is not None
    tables = (positions.rows.unsqueeze(1),)
    hidden_S1H, maps, _ = model.read_on(positions.tokens.unsqueeze(1), None, tables)
    hidden_SH = hidden_S1H[:, 0]
    logits = model.head(hidden_SH, *(maps if model.head.reads_map else ())).float()
    logs = logits.log_softmax(1)[:, : positions.weights.shape[1]]
    is_known = positions.wins.isfinite()
    count = is_known.sum().clamp(min=1)
    won, scored = head.read(hidden_SH, *maps)
    policies = policy_loss(positions, logs, won)
    if has_others:
        is_own = positions.weights.sum(1) > 0
        policy = (policies * is_own).sum() / is_own.sum().clamp(min=1)
    else:
        policy = policies.mean()
    wins = (1 - value_share) * positions.wins.nan_to_num(0.5)
    wins = wins + value_share * (positions.values + 1) / 2
    win = F.binary_cross_entropy_with_logits(won, wins, reduction="none")
    scores = positions.scores.nan_to_num(0) / head.board_size
    score = F.huber_loss(scored, scores, reduction="none")
    losses = [policy, *((each * is_known).sum() / count for each in (win, score))]
    if head.ownership_weight:
        owned = F.binary_cross_entropy_with_logits(
            head.owner_logits(*maps), (positions.owners + 1) / 2, reduction="none"
        ).mean((1, 2))
        losses.append((owned * is_known).sum() / count)
    else:
        losses.append(torch.zeros_like(policy))
    return torch.stack(losses)
