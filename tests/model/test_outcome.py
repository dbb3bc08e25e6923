"""What the outcome head says and learns: points, seen from the mover, and a draw is half a win."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.model import GameModel, ModelSettings
from tessera.model.outcome import OutcomeHead
from tessera.setting_errors import SettingError
from tessera.vocabulary import Vocabulary

SIZE = 5
WORDS = Vocabulary(SIZE)
LOGIT, SCORE = 0.7, -0.4  # of a head that says the same of everything; the score over n


def constant_head() -> OutcomeHead:
    head = OutcomeHead(3, WORDS.size, 0)
    with torch.no_grad():
        head.down.weight.zero_()
        head.down.bias.copy_(torch.tensor([LOGIT, SCORE]))
    return head


def test_the_score_is_in_points_and_the_win_a_probability() -> None:
    found = constant_head()(torch.zeros(2, 4, 3))
    assert found.win.shape == found.score.shape == (2, 4)
    assert found.win.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-LOGIT))] * 8)
    assert found.score.flatten().tolist() == pytest.approx([SCORE * SIZE] * 8)


def test_a_draw_is_half_a_win_and_scores_are_compared_over_n() -> None:
    scores = torch.tensor([20.0, 0.0, -3.0])
    win, score = constant_head().losses(torch.zeros(3, 3), scores)
    chance = 1 / (1 + math.exp(-LOGIT))
    of_win, of_loss = -math.log(chance), -math.log(1 - chance)
    assert win.tolist() == pytest.approx([of_win, (of_win + of_loss) / 2, of_loss], abs=1e-6)
    errors = [abs(SCORE - points / SIZE) for points in scores.tolist()]
    huber = [error**2 / 2 if error < 1 else error - 0.5 for error in errors]
    assert score.tolist() == pytest.approx(huber, abs=1e-6)


@pytest.mark.parametrize("features", ["none", "board"])
def test_pad_takes_no_loss_of_the_outcome_either(features: str) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(WORDS.size, 8, features=features, outcome="win_and_score")
    model = GameModel(settings)
    tokens = torch.tensor([[WORDS.eos_token, 3, 4, WORDS.pad_token]] * 2)
    targets = torch.tensor([[3, 4, WORDS.pad_token, WORDS.pad_token]] * 2)
    tables: tuple[torch.Tensor, ...] = ()
    if model.features is not None:
        tables = model.features.begun(torch.zeros(2, 4, 5, SIZE, dtype=torch.int32))
    losses = model(tokens, targets, tables, torch.full((2, 4), 7.5))
    assert losses.shape == (3, 2, 4)
    assert (losses[..., :2] > 0).all() and not losses[..., 2:].any()


def test_ownership_is_read_off_each_point_of_the_map_and_seen_from_the_mover() -> None:
    torch.manual_seed(0)
    head = OutcomeHead(3, WORDS.size, 2, ownership_weight=1.0)
    board_map = torch.zeros(4, SIZE, SIZE, 2)
    board_map[2, 1, 3] = torch.tensor([1.0, -1.0])
    with torch.no_grad():
        head.owners.weight.copy_(torch.tensor([[LOGIT, 0.0]]))
        head.owners.bias.fill_(SCORE)
    found = head(torch.zeros(4, 3), board_map).ownership
    assert found is not None and found.shape == (4, SIZE, SIZE)
    chance = 1 / (1 + math.exp(-LOGIT - SCORE))
    assert found[2, 1, 3].item() == pytest.approx(2 * chance - 1)
    assert found.flatten()[0].item() == pytest.approx(2 / (1 + math.exp(-SCORE)) - 1)


def test_without_ownership_the_head_has_todays_parameters_and_bits() -> None:
    heads = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        heads.append(OutcomeHead(3, WORDS.size, 2, ownership_weight=weight))
    plain, other = heads
    assert list(plain.state_dict()) == ["up.weight", "up.bias", "down.weight", "down.bias"]
    hidden, board_map = torch.randn(4, 3), torch.randn(4, SIZE, SIZE, 2)
    assert plain(hidden, board_map).ownership is None
    assert torch.equal(plain(hidden, board_map).win, other(hidden, board_map).win)


def test_ownership_needs_a_map() -> None:
    with pytest.raises(SettingError, match="ownership_weight must be 0 for features without"):
        OutcomeHead(3, WORDS.size, 0, ownership_weight=1.0)
