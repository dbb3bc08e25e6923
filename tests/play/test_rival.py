"""Games against another player: whose plies are whose, and what is kept of them."""

from __future__ import annotations

import copy
from typing import Any

import torch

from tessera.model import GameModel
from tessera.play.evaluator import ModelEvaluator
from tessera.play.expert_games import ExpertGames, GamesSettings
from tessera.play.sensible import sensible_moves
from tests.play.test_expert_games import MODEL, RULES, SETTINGS, SIZE, SLOTS, new_games

AGAINST = 3
PASS = SIZE**2


class Stubborn:
    """Wants the same point in every position, and says how many games it was asked about."""

    score_weight = 0.0

    def __init__(self) -> None:
        self.asked: list[int] = []

    def evaluate(self, engine: Any) -> Any:
        self.asked.append(engine.batch_size)
        logits = torch.zeros(engine.batch_size, PASS + 1)
        logits[:, 0] = 50.0
        return type("Found", (), {"logits": logits})

    def places(self) -> object:
        return None


def games_against(opponent: Any, **changes: Any) -> ExpertGames:
    plain = new_games(**changes)
    settings = GamesSettings(**(SETTINGS | {"against": AGAINST} | changes))
    games = ExpertGames(
        plain.full,
        plain.fast,
        settings,
        board_size=SIZE,
        rules=RULES,
        device=torch.device("cpu"),
        opponent=opponent,
    )
    games.begin()
    return games


def test_the_rival_has_one_colour_of_the_last_games_and_no_policy_is_learnt_of_its_plies() -> None:
    rival = Stubborn()
    games = games_against(rival, full_share=1.0, opening_plies=0, rows=40)
    assert games.rival is not None
    games.rival.is_there.fill_(True)
    theirs, played = [], 0
    for ply in range(40):
        is_theirs = (games.numbers & 1).bool() == (games.engine.turn == 0)
        is_theirs[: SLOTS - AGAINST] = False
        is_theirs &= games.engine.move_number >= games.openings
        wanted = is_theirs & sensible_moves(games.engine)[:, 0]
        games.play()
        ring = games.ring.tensors
        assert (ring["actions"][ply][wanted] == 0).all()
        assert (ring["weights"][ply].float().sum(1) > 0.9).eq(~is_theirs).all()
        theirs.append(is_theirs)
        played += int(wanted.sum())
    assert set(rival.asked) == {AGAINST} and played > 5
    is_theirs = torch.stack(theirs)
    assert 0.3 < is_theirs[:, -AGAINST:].float().mean() < 0.7
    # How a game ended is known of these positions too, and what is told of plies is of the others.
    assert (ring["wins"].isfinite() & is_theirs & ring["owners"].any(3).any(2)).any()
    assert games.tally.tensors["sums"][0] == (~is_theirs).sum()


def test_while_nobody_is_there_games_are_those_without_a_rival() -> None:
    plain, games = new_games(), games_against(Stubborn())
    plain.begin()
    for _ in range(20):
        plain.play()
        games.play()
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor.nan_to_num(7), games.tensors()[name].nan_to_num(7)), name


def test_the_other_slots_do_not_know_of_the_rival_until_games_end() -> None:
    plain, games = new_games(opening_plies=0), games_against(Stubborn(), opening_plies=0)
    plain.begin()
    games.rival.is_there.fill_(True)  # type: ignore[union-attr]
    for _ in range(3):
        plain.play()
        games.play()
    going = plain.numbers[: SLOTS - AGAINST] == games.numbers[: SLOTS - AGAINST]
    going &= plain.numbers[: SLOTS - AGAINST] < SLOTS
    both = [own.engine.history[: SLOTS - AGAINST][going] for own in (plain, games)]
    assert going.any() and torch.equal(*both)
    assert not torch.equal(plain.engine.history, games.engine.history)


def test_games_against_a_rival_are_gone_on_with() -> None:
    torch.manual_seed(3)
    opponent = ModelEvaluator(GameModel(MODEL).eval())
    whole, other = games_against(opponent), games_against(opponent)
    for games in (whole, other):
        games.rival.is_there.fill_(True)  # type: ignore[union-attr]
    for _ in range(12):
        whole.play()
    other.restore(copy.deepcopy(whole.saved()))
    for _ in range(15):
        whole.play()
        other.play()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor.nan_to_num(7), other.tensors()[name].nan_to_num(7)), name
