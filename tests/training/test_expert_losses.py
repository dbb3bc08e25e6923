"""What self-play makes smaller: each loss by hand, and whose positions have none."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings
from tessera.play.position_ring import Positions
from tessera.training.objectives.expert_iteration import ExpertBatch, ExpertIteration
from tessera.training.objectives.expert_settings import ExpertIterationSettings
from tessera.training.objectives.policy_gradient import PolicyGradientSettings, gradient_loss


def objective(**settings: Any) -> tuple[ExpertIteration, GameModel]:
    torch.manual_seed(0)
    model = GameModel(
        ModelSettings(
            **{"vocab_size": 12, "d_model": 8, "features": "board", "mixer": "identity"},
            **{"head": "points", "outcome": "win_and_score"},
            board={"channels": 4, "depth": 1, "colour": True},
            win_and_score={"ownership_weight": 2.0, "win_weight": 3.0, "score_weight": 5.0},
        )
    )
    return ExpertIterationSettings(**settings).build(model), model


def positions(**changes: Tensor) -> Positions:
    weights = torch.rand(4, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    known = {
        "tokens": torch.tensor([0, 3, 9, 11]),
        "rows": torch.zeros(4, 6, 3, dtype=torch.int32),
        "weights": weights,
        "actions": torch.arange(4),
        "values": torch.tensor([1.0, -1.0, 0.0, 0.5]),
        "wins": torch.tensor([1.0, 0.0, float("nan"), 0.5]),
        "scores": torch.tensor([3.0, -3.0, float("nan"), 0.0]),
        "owners": torch.ones(4, 3, 3),
    }
    return Positions(**(known | changes))


def test_what_is_unknown_of_a_position_s_end_is_not_learned() -> None:
    own, model = objective()
    found = []
    for owner in (1.0, -1.0):
        owners = torch.ones(4, 3, 3)
        owners[2] = owner  # of the game that goes on
        own.loss(model, ExpertBatch(0, positions(owners=owners)))
        found.append(own.figures("test"))
    assert found[0] == found[1] and all(value.isfinite() for value in found[0].values())
    total = found[0]["loss"].item()
    parts = [found[0][f"{name}_loss"].item() for name in ("policy", "win", "score", "ownership")]
    weighted = sum(w * part for w, part in zip((1, 3, 5, 2), parts, strict=True))
    assert total == pytest.approx(weighted, rel=1e-5)


def test_the_chance_to_win_is_mixed_with_what_the_search_thought() -> None:
    losses = []
    for share in (0.0, 1.0):
        own, model = objective(value_share=share)
        changed = positions(values=torch.tensor([-1.0, 1.0, 0.0, 0.0]))
        with torch.no_grad():
            model.outcome.down.bias[0] = 2.0  # it is sure to win
            own.loss(model, ExpertBatch(0, changed._replace(wins=torch.tensor([1.0, 1, 1, 0.5]))))
        losses.append(own.figures("test")["win_loss"].item())
    assert losses[0] < losses[1]


def losses_of(own: ExpertIteration, model: GameModel, **changes: Tensor) -> dict[str, float]:
    own.loss(model, ExpertBatch(0, positions(**changes)))
    return {name: value.item() for name, value in own.figures("test").items()}


def test_each_loss_is_of_what_the_player_to_move_has() -> None:
    own, model = objective(value_share=0.0)
    known = positions()
    with torch.no_grad():
        model.outcome.down.weight.zero_()
        model.outcome.down.bias.copy_(torch.tensor([1.0, 2.0]))  # it wins, by six points on 3×3
        model.outcome.owners.weight.zero_()
        model.outcome.owners.bias.fill_(3.0)  # and has every point
    logits = model(known.tokens[:, None], None, (known.rows[:, None],))[:, 0]
    found = losses_of(own, model)
    crossed = -(known.weights * logits.log_softmax(1)[:, :10]).sum(1).mean()
    assert found["policy_loss"] == pytest.approx(crossed.item(), rel=1e-5)
    # Won, lost and drawn; by 3, -3 and 0 points, in threes; the Huber loss beyond 1 is a line.
    won = [math.log1p(math.exp(-1)), math.log1p(math.exp(1))]
    assert found["win_loss"] == pytest.approx((sum(won) + sum(won) / 2) / 3, rel=1e-5)
    assert found["score_loss"] == pytest.approx((0.5 + 2.5 + 1.5) / 3, rel=1e-5)
    assert found["ownership_loss"] == pytest.approx(math.log1p(math.exp(-3)), rel=1e-4)
    theirs = losses_of(own, model, owners=-torch.ones(4, 3, 3))["ownership_loss"]
    assert theirs == pytest.approx(math.log1p(math.exp(3)), rel=1e-4)
    own.settings = ExpertIterationSettings(value_share=1.0)
    sure, wins = torch.ones(4), torch.full((4,), 0.5)
    assert losses_of(own, model, values=sure, wins=wins)["win_loss"] == pytest.approx(won[0])
    assert losses_of(own, model, values=-sure, wins=wins)["win_loss"] == pytest.approx(won[1])


def test_of_another_s_plies_no_policy_is_learned_and_the_others_weigh_as_before() -> None:
    rows = [0, 1, 3]
    weights = positions().weights.clone()
    weights[2] = 0
    own, model = objective(pool_share=0.5)
    found = losses_of(own, model, weights=weights)
    alone = {name: part[rows] for name, part in positions()._asdict().items()}
    plain, _ = objective()
    plain.loss(model, ExpertBatch(0, Positions(**alone)))
    assert found["policy_loss"] == pytest.approx(plain.figures("test")["policy_loss"].item())
    known = losses_of(own, model)
    assert all(found[name] == known[name] for name in ("win_loss", "score_loss", "ownership_loss"))


def test_a_policy_gradient_makes_moves_likelier_that_won_more_than_expected() -> None:
    _, model = objective()
    own = PolicyGradientSettings(entropy_weight=0.0).build(model)
    before = torch.full((4, 10), 1 / 9)
    before[:, 0] = 0  # is not looked at
    known = positions(actions=torch.full((4,), 4), weights=before)._replace(
        wins=torch.tensor([1.0, 0.0, float("nan"), 0.5])
    )
    won = torch.tensor([0.0, 0.0, 3.0, 2.0])  # what the model expects
    for likelier, signs in ((0.0, [1, -1, 0, -1]), (1.0, [0, -1, 0, -1]), (-1.0, [1, 0, 0, 0])):
        logs = torch.zeros(4, 10)
        logs[:, 4] = likelier  # than it was when it was played
        logs.requires_grad_()
        gradient_loss(known, logs, won, entropy_weight=0.0).sum().backward()
        assert logs.grad is not None and not logs.grad[:, 0].any()
        assert [(-row[4]).sign().item() for row in logs.grad] == signs
    own.loss(model, ExpertBatch(0, known)).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
