"""Games against another player: whose plies are whose, and what is kept of them."""

from __future__ import annotations

import copy
from typing import Any

import torch

from tessera.go import GPUGoEngine
from tessera.go.randomness import random_words
from tessera.model import GameModel
from tessera.play.evaluator import ModelEvaluator, last_tokens
from tessera.play.expert_games import ExpertGames, GamesSettings
from tessera.play.rival import Rival
from tessera.play.sensible import sensible_moves
from tests.play.test_expert_games import MODEL, RULES, SETTINGS, SIZE, SLOTS, new_games

AGAINST = 3
PASS = SIZE**2


class Neighbour:
    """Wants the point behind the last move, and says how many games it was asked about."""

    score_weight = 0.0

    def __init__(self) -> None:
        self.asked: list[int] = []

    def evaluate(self, engine: Any) -> Any:
        self.asked.append(engine.batch_size)
        logits = torch.zeros(engine.batch_size, PASS + 1)
        logits.scatter_(1, neighbours(engine)[:, None], 50.0)
        return type("Found", (), {"logits": logits})

    def places(self) -> object:
        return None


def neighbours(engine: GPUGoEngine) -> torch.Tensor:
    return (last_tokens(engine) + 1) % PASS


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
    rival = Neighbour()
    games = games_against(rival, full_share=1.0, opening_plies=3, temperature_plies=0, rows=40)
    assert games.rival is not None
    games.rival.is_there.fill_(True)
    theirs, played, own = [], 0, 0
    for ply in range(40):
        is_theirs = (games.numbers & 1).bool() == (games.engine.turn == 0)
        is_theirs[: SLOTS - AGAINST] = False
        is_chosen = games.engine.move_number >= games.openings
        is_theirs &= is_chosen
        point = neighbours(games.engine)
        wanted = is_theirs & sensible_moves(games.engine).gather(1, point[:, None])[:, 0]
        games.play()
        ring = games.ring.tensors
        assert torch.equal(ring["actions"][ply][wanted].long(), point[wanted])
        assert (ring["weights"][ply].float().sum(1) > 0.9).eq(~is_theirs).all()
        theirs.append(is_theirs)
        played += int(wanted.sum())
        own += int((is_chosen & ~is_theirs).sum())
    assert set(rival.asked) == {AGAINST} and played > 5
    is_theirs = torch.stack(theirs)
    assert 0.2 < is_theirs[:, -AGAINST:].float().mean() < 0.7
    # How a game ended is known of these positions too, and what is told of plies is of the others.
    assert (ring["wins"].isfinite() & is_theirs & ring["owners"].any(3).any(2)).any()
    assert games.tally.tensors["sums"][0] == own


def test_it_draws_its_moves_where_it_should_and_plays_the_likeliest_elsewhere() -> None:
    class Mild(Neighbour):
        def evaluate(self, engine: Any) -> Any:
            found = super().evaluate(engine)
            found.logits /= 50
            return found

    engine = GPUGoEngine(400, "cpu", SIZE, RULES)
    rival = Rival(Mild(), engine, 200)
    numbers = torch.arange(400)
    allowed, others = torch.ones(400, PASS + 1, dtype=torch.bool), torch.full((400,), 7)
    words = random_words(0, numbers, 0, 0)
    moves = rival.choose(engine, allowed, words, numbers >= 300, others)
    assert (moves[:200] == 7).all() and (moves[200:300] == neighbours(engine)[200:300]).all()
    assert set(moves[300:].tolist()) == set(range(PASS + 1))


def test_while_nobody_is_there_games_are_those_without_a_rival() -> None:
    plain, games = new_games(), games_against(Neighbour())
    plain.begin()
    for _ in range(20):
        plain.play()
        games.play()
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor.nan_to_num(7), games.tensors()[name].nan_to_num(7)), name


def test_the_other_slots_do_not_know_of_the_rival_until_games_end() -> None:
    plain, games = new_games(opening_plies=0), games_against(Neighbour(), opening_plies=0)
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
