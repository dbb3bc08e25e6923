"""The stream on a GPU: nothing waits for it, and it costs next to nothing."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tessera.commands.bench.train_speed import seconds_with_games, training_step
from tessera.data import GameBatch, GameStream, StreamSettings
from tessera.go import GameLoop, GPUGoEngine
from tessera.go.bitboard import as_moves
from tessera.model import GameModel, MambaModel, ModelSettings
from tessera.play.model_player import ModelPlayer
from tessera.play.reading import tables_of
from tests.waiting import no_waiting

pytestmark = pytest.mark.gpu


def trainer_of(model: MambaModel) -> Callable[[GameBatch], None]:
    """One optimizer step on a batch, as training takes it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(batch: GameBatch) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            losses = model(batch.inputs, batch.targets, excluded=batch.settled)
        loss = losses.sum() / (batch.targets != model.pad_token).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


@pytest.mark.parametrize("skip_settled", [False, True])
def test_games_are_generated_and_trained_on_without_waiting_for_the_gpu(
    skip_settled: bool,
) -> None:
    settings = StreamSettings(
        board_size=9, batch_size=32, games_per_chunk=64, skip_settled=skip_settled
    )
    needs = ["board", "landmarks", *["settled"] * skip_settled]
    batches = iter(GameStream(settings, device="cuda", needs=needs))
    step = trainer_of(MambaModel(84, d_model=32).cuda())
    for batch in itertools.islice(batches, 5):  # compiles the kernels
        step(batch)
    with no_waiting():
        for batch in itertools.islice(batches, 3 * settings.batches_per_chunk):
            step(batch)
    torch.cuda.synchronize()


@pytest.mark.slow  # by itself: others on the same GPU would be measured with it
def test_playing_games_adds_less_than_two_per_cent_to_a_step() -> None:
    device = torch.device("cuda")
    tokens = torch.randint(361, (512, 65), device=device)
    step = training_step(MambaModel().to(device), device, is_graphed=True)

    def seconds() -> float:
        times = []
        for _ in range(5):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(100):
                step(tokens[:, :-1], tokens[:, 1:])
            torch.cuda.synchronize()
            times.append((time.perf_counter() - began) / 100)
        return statistics.median(times)

    seconds()
    # One after the other, so that a clock that drifts is in both.
    pairs = [(seconds(), seconds_with_games(step, 19, 512, 64, device)) for _ in range(5)]
    alone_s, fed_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{1e3 * alone_s:.3f} ms, fed with games {1e3 * fed_s:.3f} ms")
    assert fed_s < alone_s / 0.98


@pytest.mark.parametrize("context", [16, None])
def test_games_that_are_played_ahead_are_the_same_games(context: int | None) -> None:
    settings = StreamSettings(board_size=9, batch_size=32, games_per_chunk=64, context=context)
    ahead, plain = (GameStream(settings, device="cuda") for _ in range(2))
    plain._plays_ahead = False
    step = trainer_of(MambaModel(84, d_model=64).cuda())
    for index in (*range(40), 3, 90):
        batch, expected = ahead.batch(index), plain.batch(index)
        step(batch)  # what is trained on meanwhile writes into no game
        for name, _, tensor in expected.tables():
            assert torch.equal(getattr(batch, name), tensor), (index, name)
    assert ahead._ahead is not None and plain._ahead is None


@pytest.mark.parametrize(
    ("features", "skip_settled"),
    [("none", False), ("board", False), ("landmarks", False), ("board", True)],
)
def test_selfplay_in_a_graph_plays_legal_games_with_the_models_probabilities(
    features: str, skip_settled: bool
) -> None:
    torch.manual_seed(0)
    model = GameModel(ModelSettings(84, 32, n_layers=2, features=features)).cuda()
    with torch.no_grad():
        model.head.weight *= 60
    own: dict[str, Any] = {"board_size": 9, "device": "cuda", "skip_settled": skip_settled}
    table = GameLoop(ModelPlayer(model), 96, 40, seed=2, **own)
    for first in (0, 96):  # the second time nothing is captured any more
        record = table.play(torch.arange(first, first + 96, device="cuda"))
        engine = GPUGoEngine(96, **own)
        eos = torch.full((96, 1), 83, device="cuda")
        tables = tables_of(model, record.moves.long()[:, :-1], 9, "full")
        with torch.no_grad():
            tokens = torch.cat([eos, record.moves.long()[:, :-1]], 1)
            logits = model(tokens, None, tables)[:, :, :82].float()
        for ply in range(engine.max_moves):
            going = ~engine.is_game_over()
            assert torch.equal(going, record.lengths > ply)
            moves = torch.where(going, record.moves[:, ply].long(), 0)
            legal = as_moves(engine.playable_rows())
            log_probs = logits[:, ply].masked_fill(~legal, -torch.inf).log_softmax(1)
            chosen = log_probs.gather(1, moves.unsqueeze(1)).squeeze(1)
            assert torch.allclose(record.log_probs[going, ply], chosen[going], atol=1e-3)
            engine.play_batch(moves, check=True)
        assert torch.equal(engine.score(), record.results)
    assert int(table.plies_played) > 2 * 96 * 30


def test_a_player_that_played_in_a_loop_of_another_size_plays_its_games_again() -> None:
    torch.manual_seed(0)
    player = ModelPlayer(MambaModel(84, d_model=32).cuda())
    first, other = (
        GameLoop(player, games, board_size=9, device="cuda", seed=2) for games in (48, 16)
    )
    numbers = torch.arange(48, device="cuda")
    expected = first.play(numbers)
    other.play(numbers[:16])
    record = first.play(numbers)
    assert torch.equal(record.moves, expected.moves)
    assert torch.equal(record.log_probs, expected.log_probs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hybrid_plays_in_a_graph_the_games_that_it_steps_through_without_it(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    own = {"n_layers": 2, "mixer": ["mamba", "attention"], "feed_forward": "dense"}
    model = GameModel(ModelSettings(84, 32, **own)).cuda()
    with torch.no_grad():
        model.head.weight *= 60
    numbers = torch.arange(96, device="cuda")

    def loop() -> GameLoop:
        player = ModelPlayer(model, dtype=dtype)
        return GameLoop(player, 96, 40, board_size=9, device="cuda", seed=2)

    captured = loop()
    records = [captured.play(numbers) for _ in range(2)]  # the second time nothing is captured
    assert captured._graph is not None
    stepped = loop()

    def play_ply() -> None:
        with torch.no_grad():
            stepped._ply()

    monkeypatch.setattr(stepped, "play_ply", play_ply)
    expected = stepped.play(numbers)
    assert stepped._graph is None and int(expected.lengths.min()) > 0
    for record in records:
        for name, _, tensor in expected.tables():
            assert torch.equal(getattr(record, name), tensor), name
