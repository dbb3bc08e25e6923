"""Matches on a GPU: a CPU's games where arithmetic is whole numbers, legal ones elsewhere."""

from __future__ import annotations

import pytest
import torch

from tessera.go import RULES, get_player
from tessera.model import GameModel, ModelSettings
from tessera.play.contestants import Contestant, ModelContestant, Seated
from tessera.play.evaluator import ModelEvaluator
from tessera.play.match import match_rules, play_match
from tessera.play.playout_sides import FlatSide, TreeSide
from tessera.play.referee import Verdict, judge
from tessera.play.search_player import SearchPlayer
from tessera.vocabulary import num_tokens

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
