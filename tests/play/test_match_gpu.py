"""Matches on a GPU: a CPU's games where arithmetic is whole numbers, legal ones elsewhere."""

from __future__ import annotations

import pytest
import torch

from tessera.go import RULES, GPUGoEngine, get_player
from tessera.go.branching import copies
from tessera.model import GameModel, ModelSettings
from tessera.play.contestants import Contestant, ModelContestant, Seated
from tessera.play.evaluator import ModelEvaluator
from tessera.play.match import fixtures_of, match_rules, play_match
from tessera.play.match_table import MatchTable
from tessera.play.playout_sides import FlatSide, TreeSide
from tessera.play.referee import Verdict, judge
from tessera.play.search_player import SearchPlayer
from tessera.vocabulary import num_tokens
from tests.play.test_match import Late

pytestmark = pytest.mark.gpu


def new_model() -> GameModel:
    torch.manual_seed(3)
    settings = ModelSettings(
        vocab_size=num_tokens(9),
        d_model=16,
        mixer="identity",
        features="board",
        head="points",
        outcome="win_and_score",
        board={"channels": 8, "depth": 2},
    )
    return GameModel(settings).eval().cuda()


def test_playouts_choose_the_same_moves_as_on_a_cpu() -> None:
    games = [
        play_match(FlatSide(60), get_player("rules"), 3, board_size=5, device=device).games
        for device in ("cpu", "cuda")
    ]
    assert [game.moves for game in games[0]] == [game.moves for game in games[1]]
    assert [game.score for game in games[0]] == [game.score for game in games[1]]


@pytest.mark.parametrize("kind", ["search", "model", "tree"])
def test_games_are_legal_and_the_same_again(kind: str) -> None:
    def side() -> Contestant:
        if kind == "tree":
            return TreeSide(12)
        model = new_model()
        if kind == "model":
            return ModelContestant(model, temperature=1.0)
        return Seated(SearchPlayer(ModelEvaluator(model), num_simulations=8))

    rules = match_rules(max_moves=24 if kind == "tree" else 60)
    played = [
        play_match(side(), get_player("rules"), 4, board_size=9, rules=rules, device="cuda")
        for _ in range(2)
    ]
    moves = [list(game.moves) for game in played[0].games]
    assert judge(moves, 9, RULES["full"]) == [Verdict()] * 8
    assert [game.moves for game in played[1].games] == [game.moves for game in played[0].games]


@pytest.mark.parametrize("sims", [0, 4])
def test_rows_and_places_of_a_batch_change_no_bit(sims: int) -> None:
    def side() -> Contestant:
        if not sims:
            return ModelContestant(new_model())
        return Seated(SearchPlayer(ModelEvaluator(new_model()), sims), is_rounded=True)

    rules, played = match_rules(max_moves=40), []
    for places in (2, 7):
        table = MatchTable(
            (side(), Late()), places, board_size=9, rules=rules, seed=5, device="cuda"
        )
        games = table.play(fixtures_of(range(8), board_size=9, rules=rules, seed=5))
        played.append(sorted((game.fixture.game, game.moves) for game in games))
    assert len(played[0]) == 16 and played[0] == played[1]
    # A game may stand in any row.
    engine = GPUGoEngine(32, "cuda", 9, rules)
    engine.play_batch(torch.arange(32, device="cuda"))
    evaluator, rows = ModelEvaluator(new_model()), torch.arange(32, device="cuda")
    found = evaluator.evaluate(engine)
    for shift in (1, 5, 17):
        moved = evaluator.evaluate(copies(engine, rows.roll(shift)))
        for one, other in zip(found, moved, strict=True):
            assert torch.equal(one.roll(shift, 0), other)
