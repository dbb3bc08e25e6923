"""The search on a GPU: one graph, without waiting, the same bits each time, the CPU's moves."""

from __future__ import annotations

import logging

import pytest
import torch

from tessera.go import GameLoop, GPUGoEngine, Rules, get_player
from tessera.go.randomness import MOVE, random_words
from tessera.model import GameModel
from tessera.play.evaluator import ModelEvaluator, PlayoutEvaluator
from tessera.play.search import GumbelSearch, Searched
from tessera.play.search_player import SearchPlayer
from tests.go.states import everything
from tests.play.test_evaluator import new_model
from tests.waiting import no_waiting

pytestmark = pytest.mark.gpu


def begun(games: int, plies: int, device: str = "cuda", size: int = 5) -> GPUGoEngine:
    """Games of the rule-based player that have been going on for a while."""
    engine, player = GPUGoEngine(games, device, size, Rules(komi=0.5)), get_player("rules")
    for ply in range(plies):
        words = random_words(1, torch.arange(games, device=device), ply, MOVE)
        engine.play_batch(player.choose(engine, words).moves)
    return engine


def cuda_model() -> GameModel:
    return new_model().cuda().requires_grad_(False)


def assert_same(found: Searched, expected: Searched) -> None:
    for name, tensor, wanted in zip(Searched._fields, found, expected, strict=True):
        assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize("passes", ["free", "last", "sensible"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_search_is_captured_replayed_and_never_waits(
    passes: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which torch asks for then
    engine, words = begun(300, 12), torch.arange(300, device="cuda")
    search = GumbelSearch(ModelEvaluator(cuda_model(), dtype), 12, passes=passes)
    before = everything(engine)
    torch.use_deterministic_algorithms(True)
    try:
        eager = search.run(engine, words)
        captured = search.run(engine, words)
        assert search._room is not None and search._room.graph is not None
        with no_waiting():
            replayed = search.run(engine, words)
            other = search.run(engine, words + 1, words % 2 == 0)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same(captured, eager)
    assert_same(replayed, eager)
    assert (other.action[1::2] == 25).all() and not other.visits[1::2].any()
    assert not torch.equal(other.visits[::2], eager.visits[::2])
    for name, tensor in everything(engine).items():
        assert torch.equal(tensor, before[name]), name


def test_a_graph_heeds_weights_that_change_and_weights_that_move() -> None:
    engine, words = begun(64, 9), torch.arange(64, device="cuda")
    model = cuda_model()
    search = GumbelSearch(ModelEvaluator(model), 8)
    first = [search.run(engine, words) for _ in range(3)][-1]
    for weight in model.parameters():
        weight *= 1.1
    changed = search.run(engine, words)
    assert not torch.equal(changed.raw_value, first.raw_value)
    assert_same(changed, GumbelSearch(ModelEvaluator(model), 8).run(engine, words))
    for weight in model.parameters():
        weight.data = weight.data.clone() * 0.9
    assert_same(
        search.run(engine, words), GumbelSearch(ModelEvaluator(model), 8).run(engine, words)
    )


@pytest.mark.parametrize("simulations", [0, 1, 16, 50])
def test_moves_on_a_gpu_are_those_on_the_cpu(simulations: int) -> None:
    model = new_model()
    games = 200
    on_cpu = begun(games, 15, "cpu")
    on_gpu = GPUGoEngine(games, "cuda", 5, Rules(komi=0.5))
    for moves in on_cpu.history[:, :15].long().unbind(1):
        on_gpu.play_batch(moves)
    words = torch.arange(games)
    plain = GumbelSearch(ModelEvaluator(model), simulations, value_scale=0.1).run(on_cpu, words)
    fast = GumbelSearch(ModelEvaluator(model.cuda()), simulations, value_scale=0.1)
    found = fast.run(on_gpu, words.cuda())
    # The last bits of the model's answers differ, and then a choice now and then.
    same = (found.visits.cpu() == plain.visits).all(1)
    assert same.float().mean() > 0.9
    assert (found.action.cpu() == plain.action).float().mean() > 0.95
    weights, expected = found.action_weights.cpu()[same], plain.action_weights[same]
    assert torch.allclose(weights, expected, atol=2e-2)


def test_the_player_plays_in_the_loops_graph() -> None:
    model = cuda_model()
    games: list[torch.Tensor] = []
    for _ in range(2):
        player = SearchPlayer(ModelEvaluator(model), 6, temperature=1.0, passes="sensible")
        loop = GameLoop(player, 96, 32, board_size=5, device="cuda", rules=Rules(komi=0.5))
        record = loop.play(torch.arange(96))
        assert loop._graph is not None
        again = loop.play(torch.arange(96))
        assert torch.equal(record.moves, again.moves)
        games.append(record.moves)
    assert torch.equal(*games)
    engine = GPUGoEngine(96, "cuda", 5, Rules(komi=0.5))
    for moves in games[0].long().unbind(1):
        engine.play_batch(torch.where(engine.is_game_over(), 25, moves), check=True)
    assert engine.is_game_over().all()


def test_playouts_are_captured_too(caplog: pytest.LogCaptureFixture) -> None:
    engine, words = begun(16, 6), torch.arange(16, device="cuda")
    search = GumbelSearch(PlayoutEvaluator(16), 8)
    with caplog.at_level(logging.WARNING):
        found = [search.run(engine, words) for _ in range(3)]
    assert not caplog.records
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])
    on_cpu = begun(16, 6, "cpu")
    expected = GumbelSearch(PlayoutEvaluator(16), 8).run(on_cpu, words.cpu())
    # Playouts are whole numbers, and so the same everywhere.
    assert torch.equal(found[0].raw_value.cpu(), expected.raw_value)
    assert (found[0].visits.cpu() == expected.visits).all(1).float().mean() > 0.9
