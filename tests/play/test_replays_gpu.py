"""On a GPU a position is read by replaying a graph: with the same bits, whoever else asks."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from tessera.go import Rules
from tessera.model import GameModel, ModelSettings
from tessera.play.replays import Replays
from tessera.play.session import Session

pytestmark = pytest.mark.gpu
MOVES = [40, 41, 31, 32, 49, 22, 50, 23, 51, 13, 81, 60, 61, 62]


def session_of(model: GameModel, context: int | None) -> Session:
    return Session(model, 9, Rules(), context, "cuda")


def said_by(game: Session) -> torch.Tensor:
    """Probabilities, and of a model that says it whose the points will be, in one vector."""
    found = game.outlook()
    owned = torch.empty(0) if found.ownership is None else found.ownership.flatten()
    return torch.cat([found.probabilities, owned])


@pytest.mark.parametrize("context", [None, 5])
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"features": "board", "head": "points", "outcome": "win_and_score", "n_layers": 2},
        {
            **{"features": "board", "head": "points", "outcome": "win_and_score"},
            "win_and_score": {"ownership_weight": 1.0},
        },
        {"features": "landmarks"},
        {"mixer": ["attention", "mamba"], "n_layers": 2},
    ],
)
def test_a_replayed_position_is_the_same_as_one_that_is_launched(
    parts: dict[str, Any], context: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = GameModel(ModelSettings(84, 32, **parts)).cuda().eval()
    games = [session_of(model, context) for _ in range(2)]
    told: list[list[torch.Tensor]] = [[], []]
    for move in MOVES:  # two games that share the graphs
        for at, game in enumerate(games):
            game.play(move if at == 0 else 80 - move if move < 81 else move)
            told[at].append(said_by(game))
    assert (len(Replays.of(model)._graphs) > 0) or parts.get("mixer") is not None
    for _ in range(4):
        games[0].undo()
    other = games[0]
    for move in (70, 71, 72):
        other.play(move)
        told[0].append(said_by(other))

    monkeypatch.setattr(Replays, "__call__", lambda self, name, run, inputs: run(inputs))
    plain = session_of(model, context)
    for at in range(2):
        plain.clear()
        for move, found in zip(MOVES, told[at], strict=False):
            plain.play(move if at == 0 else 80 - move if move < 81 else move)
            assert torch.equal(said_by(plain), found)
        if at == 0:
            for _ in range(4):
                plain.undo()
            for move, found in zip((70, 71, 72), told[0][len(MOVES) :], strict=True):
                plain.play(move)
                assert torch.equal(said_by(plain), found)


def test_weights_that_move_are_captured_anew() -> None:
    torch.manual_seed(0)
    model = GameModel(ModelSettings(84, 32)).cuda().eval()
    game = session_of(model, None)
    for move in MOVES[:6]:
        game.play(move)
        game.outlook()
    before = game.outlook().probabilities
    torch.manual_seed(1)
    model.load_state_dict(GameModel(ModelSettings(84, 32)).state_dict(), assign=True)
    model.cuda()
    game.clear()
    for move in MOVES[:6]:
        game.play(move)
        found = game.outlook().probabilities
    with torch.inference_mode():
        tokens = torch.tensor([[83, *MOVES[:6]]], device="cuda")
        expected = model(tokens)[0, -1, :82].cpu()
    legal = game.outlook().legal
    expected = expected.masked_fill(~legal, -torch.inf).softmax(0)
    assert torch.allclose(found, expected, atol=1e-5) and not torch.allclose(before, found)


def test_a_model_that_nobody_holds_is_let_go() -> None:
    model = GameModel(ModelSettings(84, 32)).cuda().eval()
    game = session_of(model, None)
    for move in MOVES[:4]:
        game.play(move)
        game.outlook()
    held = weakref.ref(model)
    del model, game
    gc.collect()
    assert held() is None
