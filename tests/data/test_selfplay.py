"""Games of a model against itself: legal, with the probabilities that the model gave, resumable."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from tessera.data import MixedStream, SelfPlayStream, StreamSettings
from tessera.data.selfplay_stream import GameStream
from tessera.go import GameLoop, GameRecord, GPUGoEngine, Rules, kept_tables
from tessera.go.bitboard import unpack
from tessera.model import GameModel, MambaModel, ModelSettings
from tessera.play.model_player import ModelPlayer
from tessera.play.reading import tables_of
from tessera.vocabulary import Vocabulary

SIZE = 4
WORDS = Vocabulary(SIZE)


def model(seed: int = 0, size: int = SIZE, loud: float = 60.0, mixer: str = "mamba") -> MambaModel:
    """A model whose logits are of size 1, so that its games are far from uniform."""
    torch.manual_seed(seed)
    model = MambaModel(size**2 + 3, d_model=12, n_layers=2, mixer=mixer)
    with torch.no_grad():
        model.head.weight *= loud
    return model


def reading(features: str) -> GameModel:
    """As ``model``, of one that reads features beside the moves."""
    torch.manual_seed(0)
    settings = {"features": features, "head": "points", "points": {"channels": 6}}
    reading = GameModel(ModelSettings(WORDS.size, 12, n_layers=2, **settings))
    with torch.no_grad():
        reading.head.points.weight *= 200
    return reading


def self_play(
    model: GameModel,
    num_games: int,
    num_slots: int | None = None,
    needs: tuple[str, ...] = (),
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> GameLoop:
    player = ModelPlayer(model, temperature, dtype)
    size, tables = player.board_size, kept_tables(needs)
    return GameLoop(player, num_games, num_slots, board_size=size, tables=tables, **options)


def assert_same_games(a: GameRecord, b: GameRecord) -> None:
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.allclose(one.float(), other.float(), atol=1e-5), field.name


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "board", "landmarks"])
def test_a_record_says_what_was_played_and_how_likely_it_was(kind: str) -> None:
    player: GameModel = model(mixer=kind) if kind.startswith("mamba") else reading(kind)
    record = self_play(player, 12, seed=3, temperature=0.8, needs=("legal",)).play(torch.arange(12))
    assert record.legal is not None
    engine = GPUGoEngine(12, "cpu", SIZE)
    tokens = torch.cat([torch.full((12, 1), WORDS.eos_token), record.moves.long()[:, :-1]], 1)
    with torch.no_grad():
        tables = tables_of(player, tokens[:, 1:], SIZE, "full")
        logits = player(tokens, None, tables)[:, :, : SIZE**2 + 1] / 0.8
    for ply in range(engine.max_moves):
        going = ~engine.is_game_over()
        assert torch.equal(going, record.lengths > ply)
        legal = engine.get_legal_mask()
        assert torch.equal(record.legal[going, ply], engine.legal_rows().t()[going])
        expected = logits[:, ply].masked_fill(~legal, -torch.inf).softmax(1)
        moves = record.moves[:, ply].long()
        chosen = expected.gather(1, moves.clamp(max=SIZE**2).unsqueeze(1)).squeeze(1).log()
        assert torch.allclose(record.log_probs[going, ply], chosen[going], atol=1e-4)
        entropies = torch.distributions.Categorical(expected).entropy()
        assert torch.allclose(record.entropies[going, ply], entropies[going], atol=1e-4)
        engine.play_batch(torch.where(going, moves, 0), check=True)
        assert torch.equal(engine.last_captures[going], record.captures[going, ply].long())
        assert (moves[~going] == WORDS.pad_token).all()
        for table in (record.log_probs, record.entropies, record.captures):
            assert not table[~going, ply].any()
    assert torch.equal(engine.score(), record.results)
    assert len({tuple(moves) for moves in record.moves.tolist()}) == 12


@pytest.mark.parametrize("kind", ["mamba", "board"])
def test_a_model_that_leaves_settled_points_alone_draws_among_the_others(kind: str) -> None:
    player: GameModel = model(loud=20.0) if kind == "mamba" else reading(kind)
    needs = ("legal", "settled")
    loop = self_play(player, 24, 10, needs, seed=3, temperature=2.0, skip_settled=True)
    record = loop.play(torch.arange(24))
    assert record.skip_settled and record.legal is not None and record.settled is not None
    engine = GPUGoEngine(24, "cpu", SIZE)
    tokens = torch.cat([torch.full((24, 1), WORDS.eos_token), record.moves.long()[:, :-1]], 1)
    with torch.no_grad():
        tables = tables_of(player, tokens[:, 1:], SIZE, "full")
        logits = player(tokens, None, tables)[:, :, : SIZE**2 + 1] / 2.0
    taken_away = 0
    for ply in range(int(record.lengths.max())):
        going = record.lengths > ply
        legal, settled = engine.legal_rows(), engine.settled_points().both
        taken_away += int((legal & settled).ne(0).any(0)[going].sum())
        assert torch.equal(record.settled[going, ply], settled.t()[going])
        assert torch.equal(record.legal[going, ply], (legal & ~settled).t()[going])
        allowed = torch.nn.functional.pad(unpack(legal & ~settled).flatten(1), (0, 1), value=True)
        expected = logits[:, ply].masked_fill(~allowed, -torch.inf).softmax(1)
        moves = record.moves[:, ply].long()
        chosen = expected.gather(1, moves.clamp(max=SIZE**2).unsqueeze(1)).squeeze(1).log()
        assert torch.allclose(record.log_probs[going, ply], chosen[going], atol=1e-4)
        entropies = torch.distributions.Categorical(expected).entropy()
        assert torch.allclose(record.entropies[going, ply], entropies[going], atol=1e-4)
        engine.play_batch(torch.where(going, moves, WORDS.pad_token), check=True)
    assert taken_away > 10


def test_games_are_the_same_however_many_are_played_at_once() -> None:
    player = model()
    whole = self_play(player, 9, needs=("legal",)).play(torch.arange(9))
    for slots in (1, 4):
        table = self_play(player, 9, slots, needs=("legal",))
        assert_same_games(whole, table.play(torch.arange(9)))
        assert int(table.plies_played) == int(whole.lengths.sum())
    # The same table again, and another number first.
    table = self_play(player, 9, 4)
    others = table.play(torch.arange(100, 109))
    assert not torch.equal(others.moves, whole.moves)
    again = table.play(torch.arange(9))
    assert torch.equal(again.moves, whole.moves)
    other = self_play(player, 9, seed=1).play(torch.arange(9))
    assert not torch.equal(other.moves, whole.moves)


def test_moves_are_drawn_with_the_probabilities_that_are_recorded() -> None:
    player = model(size=2, loud=200.0)
    record = self_play(player, 4000, rules=Rules(max_moves=2)).play(torch.arange(4000))
    counts = torch.bincount(record.moves[:, 0].long(), minlength=5)
    likely = record.log_probs[:, 0].exp().tolist()
    first = dict(zip(record.moves[:, 0].tolist(), likely, strict=True))
    assert max(first.values()) > 2 * min(first.values()), "too uniform a model shows nothing"
    for move, probability in first.items():
        deviation = (4000 * probability * (1 - probability)) ** 0.5
        assert abs(int(counts[move]) - 4000 * probability) < 4.5 * deviation


def test_a_low_temperature_makes_likely_moves_likelier() -> None:
    player = model()
    cold, warm = (
        self_play(player, 8, temperature=temperature).play(torch.arange(8)).entropies[:, 0].mean()
        for temperature in (0.2, 1.0)
    )
    assert cold < 0.7 * warm


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_games": 0}, "num_games and num_slots must be at least 1, got 0."),
        ({"num_games": 4, "num_slots": -1}, "must be at least 1, got -1."),
        ({"num_games": 4, "temperature": 0}, "temperature must be more than 0, got 0."),
        ({"num_games": 4, "temperature": math.nan}, "temperature must be more than 0, got nan."),
        ({"num_games": 4, "temperature": "1"}, "temperature must be more than 0, got '1'."),
        ({"num_games": 2.5}, "num_games must be a whole number, got 2.5."),
        ({"num_games": 4, "num_slots": True}, "num_slots must be a whole number, got True."),
        ({"num_games": 4, "seed": 0.5}, "seed must be a whole number, got 0.5."),
        ({"num_games": 4, "rules": "chess"}, "rules must be one of full, phase2, .*, got chess."),
        ({"num_games": 4, "dtype": torch.float16}, "dtype must be torch.float32 or torch.bfloat16"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        self_play(model(), **arguments)


def test_more_games_than_there_is_memory_for_are_refused() -> None:
    with pytest.raises(MemoryError, match=r"num_games \(=1000000000000\) games need [\d,]+ GiB"):
        self_play(model(), 10**12, 1)


@pytest.mark.parametrize("numbers", [torch.arange(3), torch.rand(4), torch.arange(1), [0, 1, 2, 3]])
def test_only_as_many_numbers_as_games_are_played(numbers: Any) -> None:
    with pytest.raises(ValueError, match=r"numbers must be a tensor \(4,\) of whole numbers, got"):
        self_play(model(), 4).play(numbers)


def test_the_lowest_temperature_plays_the_likeliest_move_and_stays_a_number() -> None:
    record = self_play(model(), 8, temperature=5e-324).play(torch.arange(8))
    played = torch.arange(record.moves.shape[1]) < record.lengths.unsqueeze(1)
    assert record.entropies.isfinite().all() and record.log_probs.isfinite().all()
    assert record.log_probs[played].eq(0).all() and record.entropies[played].eq(0).all()


def test_a_vocabulary_of_no_board_is_refused() -> None:
    with pytest.raises(ValueError, match="n² \\+ 3 for an n×n board, got 20"):
        self_play(MambaModel(20, d_model=4), 1)


SETTINGS = StreamSettings(
    board_size=SIZE, batch_size=2, games_per_chunk=4, context=8, windows_per_game=1
)


def learn(player: MambaModel) -> None:
    with torch.no_grad():
        player.head.weight.mul_(-1.0)


def test_a_chunk_is_played_by_the_weights_of_the_moment_and_again_after_resuming() -> None:
    player = model()
    stream = SelfPlayStream(player, ModelPlayer, SETTINGS)
    first = stream.batch(0)
    learn(player)
    assert torch.equal(stream.batch(0).targets, first.targets), "a chunk has one player"
    second = stream.batch(2)
    # A run that is resumed in the first chunk, when the second had been begun already.
    resumed = SelfPlayStream(model(seed=5), ModelPlayer, SETTINGS)
    resumed.weights = dict(stream.weights)
    for index, batch in ((0, first), (2, second)):
        again = resumed.batch(index)
        assert torch.equal(again.targets, batch.targets)
        assert torch.equal(again.log_probs, batch.log_probs)
    unlearned = SelfPlayStream(model(), ModelPlayer, SETTINGS)
    assert not torch.equal(unlearned.batch(2).log_probs, second.log_probs)
    for index in (4, 6, 8):
        stream.batch(index)
    assert sorted(stream.weights) == [3, 4]


@pytest.mark.parametrize("context", [8, None])
def test_a_mixed_batch_holds_both_and_pad_fills_up_the_shorter(context: int | None) -> None:
    settings = dataclasses.replace(SETTINGS, context=context, windows_per_game=None)
    parts = GameStream(settings), SelfPlayStream(model(), ModelPlayer, settings)
    batch = MixedStream(parts).batch(1)
    for rows, part in zip((slice(0, 2), slice(2, 4)), parts, strict=True):
        alone = part.batch(1)
        length = alone.inputs.shape[1]
        for name in ("inputs", "targets", "log_probs", "entropies", "plies", "captures"):
            assert torch.equal(getattr(batch, name)[rows, :length], getattr(alone, name)), name
        assert (batch.targets[rows, length:] == WORDS.pad_token).all()
        assert not batch.entropies[rows, length:].any()
        assert torch.equal(batch.results[rows], alone.results)


def test_a_player_makes_room_for_longer_games() -> None:
    player = ModelPlayer(GameModel(ModelSettings(12, 8, mixer="attention")))
    for max_moves in (3, 9):
        rules = Rules(max_moves=max_moves)
        record = GameLoop(player, 4, board_size=3, rules=rules).play(torch.arange(4))
        assert record.lengths.max() == max_moves


def test_a_loop_forgets_its_graph_if_the_player_has_played_in_a_loop_of_another_size() -> None:
    player = ModelPlayer(MambaModel(12, d_model=8))
    first, same, other = (GameLoop(player, games, board_size=3) for games in (4, 4, 2))
    graph: Any = object()

    def has_graph(loop: GameLoop) -> bool:
        loop._graph = graph
        loop.begin(torch.arange(loop.num_games))
        return loop._graph is graph

    assert not has_graph(first) and has_graph(first)
    assert not has_graph(same) and has_graph(same) and has_graph(first)
    assert not has_graph(other) and not has_graph(first) and has_graph(first)
    assert not has_graph(same), "its graph is older than the other size"
