"""A model's games against a side that answers later: the same, whoever is ready, wherever."""

from __future__ import annotations

from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.go import Choice, GPUGoEngine, Player, get_player
from tessera.go.features import board_rows
from tessera.model import GameModel
from tessera.play.apart import steady
from tessera.play.contestants import Contestant, ModelContestant, Seated
from tessera.play.match import fixtures_of, match_rules
from tessera.play.match_table import MatchTable
from tests.play.conftest import new_model
from tests.play.test_match import Late

RULES = match_rules(max_moves=14)


class Rounding(Player):
    """Plays by the last bits of a sum, as if a batch's shape and the game's row were all of it."""

    name = "rounding"

    def begin(self, engine: GPUGoEngine) -> None:
        pass

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        pass

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        rows = torch.arange(engine.batch_size)
        legal = engine.get_legal_mask()
        # And by all that a model is told, such as what the other side has just taken.
        told = (board_rows(engine).flatten(1).long() * torch.arange(20)).sum(1)
        nth = words + told + 7 * engine.batch_size + 3 * rows + torch.get_num_threads()
        nth %= legal.sum(1)
        at = legal.long().cumsum(1) - 1 == nth.unsqueeze(1)
        moves = (at & legal).long().argmax(1)
        return Choice(moves, torch.zeros(len(moves)), torch.zeros(len(moves)))


def rounding(model: GameModel, name: str) -> GameModel:
    """The model, with logits that are shifted by what their batch and their row are."""
    exact = getattr(model, name)

    def rounded(self: GameModel, tokens: Tensor, *others: Any) -> Tensor:
        logits: Tensor = exact(tokens, *others)
        size, rows = len(logits), torch.arange(len(logits)).unsqueeze(1)
        points = torch.arange(logits.shape[1])
        return logits + 50 * ((3 * rows + 7 * size + torch.get_num_threads()) % 5 == points % 5)

    setattr(model, name, MethodType(rounded, model))
    return model


def games_of(side: Contestant, places: int) -> list[tuple[int, tuple[int, ...]]]:
    table = MatchTable((side, Late()), places, board_size=4, rules=RULES, seed=5, device="cpu")
    games = table.play(fixtures_of(range(3), board_size=4, rules=RULES, seed=5))
    return sorted((game.fixture.game, game.moves) for game in games)


@pytest.mark.parametrize("kind", ["search", "moves", "window"])
def test_rounding_that_depends_on_the_batch_changes_no_game(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def side() -> Contestant:
        if kind == "search":
            return Seated(Rounding(), is_rounded=True)
        name = "step_in_place" if kind == "moves" else "predict_next"
        model = rounding(new_model("moves", 4), name)
        return ModelContestant(model, context=None if kind == "moves" else 6)

    played, threads = [], torch.get_num_threads()
    try:
        # However long a side waits for the other's answers while some of them are there.
        for places, num_threads, patience in ((1, 1, 0.0), (3, 2, 1e6), (5, 1, 2.0)):
            monkeypatch.setattr("tessera.play.match_table._PATIENCE", patience)
            torch.set_num_threads(num_threads)
            played.append(games_of(side(), places))
    finally:
        torch.set_num_threads(threads)
    assert len(played[0]) == 6 and played[0] == played[1] == played[2]


def test_on_a_gpu_all_games_are_asked_in_one_shape() -> None:
    sizes = set[int]()

    class Sized(Rounding):
        def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
            sizes.add(engine.batch_size)
            return super().choose(engine, words)

    player, gpu = Sized(), torch.device("cuda")
    given = Seated(player, is_rounded=True)
    side, engine = steady(given, gpu), GPUGoEngine(5, "cpu", 4, RULES)
    for asked in (side, given):
        sizes.clear()
        asked.begin(engine)
        for mine in range(1, 6):
            asked.moves(engine, torch.arange(5) < mine, torch.arange(5))
        assert (sizes == {5}) == (asked is side)
    for exact in (Seated(player), ModelContestant(new_model("moves", 4))):
        assert steady(exact, gpu) is exact


def test_what_is_whole_numbers_is_asked_together() -> None:
    class Counting(Seated):
        most = 0

        def moves(self, engine: GPUGoEngine, is_mine: Tensor, words: Tensor) -> Tensor:
            self.most = max(self.most, int(is_mine.sum()))
            return super().moves(engine, is_mine, words)

    side = Counting(get_player("rules"))
    games_of(side, 4)
    assert side.most > 1
