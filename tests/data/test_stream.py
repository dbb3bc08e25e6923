"""Batches are pure functions of their numbers, and say exactly what the games were."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tessera.data import TEST_NUMBERS, TRAIN_NUMBERS, VAL_NUMBERS, GameStream, StreamSettings
from tessera.go import Rules, play_games
from tessera.vocabulary import Vocabulary

SIZE = 4
WORDS = Vocabulary(SIZE)


def settings(**changes) -> StreamSettings:
    defaults = {"board_size": SIZE, "batch_size": 4, "games_per_chunk": 8, "context": 16}
    return StreamSettings(**{**defaults, "windows_per_game": 2, **changes})


def whole_games(**changes) -> StreamSettings:
    return settings(context=None, windows_per_game=None, **changes)


def same(a, b) -> bool:
    return a.index == b.index and all(
        torch.equal(x, y) for x, y in zip(a[1:], b[1:], strict=True) if x is not None
    )


def test_a_whole_game_is_eos_moves_eos_pad_and_the_target_is_one_on() -> None:
    batch = GameStream(whole_games()).batch(1)
    record = play_games("rules", range(4, 8), seed=0, board_size=SIZE)
    assert batch.inputs.shape[1] == int(record.lengths.max()) + 1
    for row, length in enumerate(record.lengths.tolist()):
        moves = record.moves[row, :length].tolist()
        assert batch.inputs[row, : length + 1].tolist() == [WORDS.eos_token, *moves]
        assert batch.targets[row, : length + 1].tolist() == [*moves, WORDS.eos_token]
        assert (batch.targets[row, length + 1 :] == WORDS.pad_token).all()
        assert (batch.inputs[row, length + 2 :] == WORDS.pad_token).all()


def test_a_window_is_a_piece_of_its_game_with_everything_known_about_it() -> None:
    stream = GameStream(settings(), needs=["legal"])
    record = play_games("rules", range(8), seed=0, board_size=SIZE, needs=["legal"])
    assert record.legal is not None
    for index in range(4):
        batch = stream.batch(index)
        for row in range(4):
            game = (4 * index + row) % 8
            start, length = int(batch.plies[row, 0]), int(record.lengths[game])
            span = slice(start, min(start + 16, length))
            size = span.stop - span.start
            moves = record.moves[game, span].tolist()
            assert batch.targets[row, :size].tolist() == moves
            first = WORDS.eos_token if start == 0 else int(record.moves[game, start - 1])
            assert batch.inputs[row, :size].tolist() == [first, *moves[:-1]]
            assert torch.equal(batch.log_probs[row, :size], record.log_probs[game, span])
            assert torch.equal(batch.entropies[row, :size], record.entropies[game, span])
            assert torch.equal(batch.legal[row, :size], record.legal[game, span])
            before = [int(record.captures[game, :ply].sum()) for ply in range(start, span.stop)]
            assert batch.captures[row, :size].tolist() == before
            assert batch.log_probs[row, size:].count_nonzero() == 0


def test_log_probabilities_and_entropies_are_zero_where_no_choice_was_made() -> None:
    batch = GameStream(whole_games()).batch(0)
    no_choice = batch.targets >= WORDS.pad_token
    assert no_choice.any()
    assert batch.log_probs[no_choice].count_nonzero() == 0
    assert batch.entropies[no_choice].count_nonzero() == 0
    assert batch.log_probs[~no_choice].count_nonzero() > 0


@pytest.mark.parametrize(
    "given", [settings(board_size=3), whole_games(board_size=3)], ids=["windows", "whole games"]
)
def test_batch_k_is_the_same_however_it_is_reached(given: StreamSettings) -> None:
    walked = list(zip(range(7), GameStream(given), strict=False))
    for index, batch in (walked[0], walked[3], walked[6]):
        assert same(GameStream(given).batch(index), batch)
    resumed = GameStream(given, start_batch=5)
    assert same(next(iter(resumed)), walked[5][1])
    assert same(next(iter(resumed)), walked[5][1]), "an iteration must not move the start"


def test_another_seed_gives_other_games_and_other_windows() -> None:
    one, two = GameStream(settings()).batch(0), GameStream(settings(seed=1)).batch(0)
    assert not torch.equal(one.targets, two.targets)


def test_ranks_share_no_game_and_leave_none_out() -> None:
    streams = [GameStream(settings(), rank=rank, world_size=3) for rank in range(3)]
    numbers = [number for stream in streams for c in range(2) for number in stream.numbers(c)]
    assert sorted(numbers) == list(range(48))
    assert not torch.equal(streams[0].batch(0).targets, streams[1].batch(0).targets)


def test_validation_and_test_games_are_out_of_trainings_reach() -> None:
    assert TRAIN_NUMBERS == 0
    assert VAL_NUMBERS == 2**40
    assert TEST_NUMBERS == 2**41
    train, held_out = GameStream(settings()), GameStream(settings(), first_number=VAL_NUMBERS)
    assert held_out.numbers(0)[0] == 2**40
    assert not torch.equal(train.batch(0).targets, held_out.batch(0).targets)


def test_consecutive_batches_hold_different_games() -> None:
    given = settings(games_per_chunk=8, batch_size=4)
    first, second = (GameStream(given).batch(index) for index in (0, 1))
    games = play_games("rules", range(8), seed=0, board_size=SIZE)
    for batch, numbers in ((first, range(4)), (second, range(4, 8))):
        for row, game in enumerate(numbers):
            ply = int(batch.plies[row, 0])
            assert int(batch.targets[row, 0]) == int(games.moves[game, ply])


def test_windows_cover_all_of_a_game_about_evenly() -> None:
    given = settings(board_size=5, batch_size=512, games_per_chunk=512, player="uniform")
    stream = GameStream(given)
    batches = [stream.batch(index) for index in range(2)]
    played = play_games("uniform", range(512), seed=0, board_size=5).lengths
    long_enough = 30
    seen = torch.zeros(long_enough)
    for batch in batches:
        plies = batch.plies[(batch.targets < 26) & (batch.plies < long_enough)]
        seen += torch.bincount(plies.long(), minlength=long_enough)
    share = seen / torch.stack([(played > ply).sum() for ply in range(long_enough)])
    assert (share[:1] > 0.3 * share.mean()).all(), "a game's first move must not be rare"
    assert share.min() > 0.3 * share.mean() and share.max() < 2 * share.mean()
    begins = sum(int((batch.plies[:, 0] == 0).sum()) for batch in batches)
    assert 0.1 < begins / 1024 < 0.7


def test_a_token_may_follow_exactly_where_the_rules_allow_it() -> None:
    batch = GameStream(whole_games(), needs=["legal"]).batch(0)
    allowed = batch.legal_tokens()
    counted = batch.targets != WORDS.pad_token
    assert allowed.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)[counted].all()
    assert not allowed[..., WORDS.pad_token].any()
    ends = batch.targets == WORDS.eos_token
    assert allowed[ends].sum(-1).eq(1).all() and allowed[ends][:, WORDS.eos_token].all()
    going_on = counted & ~ends
    assert allowed[going_on][:, WORDS.pass_token].all()
    assert not allowed[going_on][:, WORDS.eos_token].any()
    # An empty board: every point, and the pass.
    assert allowed[:, 0].sum(-1).eq(SIZE**2 + 1).all()
    # The move just played is never legal.
    last = batch.inputs[:, 1:].unsqueeze(-1)
    was_point = (batch.inputs[:, 1:] < SIZE**2) & going_on[:, 1:]
    assert not allowed[:, 1:].gather(-1, last).squeeze(-1)[was_point].any()


def test_legal_tokens_have_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match=re.escape('needs=["legal"]')):
        GameStream(settings()).batch(0).legal_tokens()


def test_batches_made_in_inference_mode_can_be_trained_on() -> None:
    with torch.inference_mode():
        batch = GameStream(settings()).batch(0)
    embedding = torch.nn.Embedding(WORDS.size, 4)
    (embedding(batch.inputs).sum() * batch.entropies.sum()).backward()
    assert embedding.weight.grad is not None and embedding.weight.grad.abs().sum() > 0


def test_too_many_games_at_once_name_the_setting_to_lower() -> None:
    stream = GameStream(settings(games_per_chunk=10**14, batch_size=1))
    with pytest.raises(MemoryError, match=r"lower games_per_chunk \(=10+\)"):
        stream.batch(0)


@pytest.mark.parametrize(
    "huge",
    [
        {"games_per_chunk": 10**21},
        {"context": 10**12},
        {"windows_per_game": 10**12},
        {"rules": Rules(max_moves=10**9)},
    ],
)
def test_a_chunk_that_fits_into_no_memory_says_what_it_needs_and_what_there_is(huge: dict) -> None:
    given = settings(**{"batch_size": 8, **huge})
    with pytest.raises(MemoryError) as error:
        GameStream(given).batch(0)
    said = str(error.value)
    assert "\n" not in said
    assert re.search(r"context \(=\d+\) or max_moves: games of up to \d+ plies", said)
    assert re.search(r"need [\d,]+ GiB of memory, cpu has [\d,]+ GiB\.$", said)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank": 1}, "rank must be 0 to 0, got 1."),
        ({"rank": 0.0}, "rank must be a whole number, got 0.0."),
        ({"world_size": 0}, "world_size must be at least 1, got 0."),
        ({"start_batch": -1}, "start_batch must be at least 0, got -1."),
        ({"num_batches": -1}, "num_batches must be at least 0, got -1."),
        ({"first_number": 0.5}, "first_number must be a whole number, got 0.5."),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:0, got gpu."),
    ],
)
def test_a_wrong_argument_of_a_stream_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        GameStream(settings(), **wrong)
    assert message in str(error.value)
    with pytest.raises(ValueError, match="index must be"):
        GameStream(settings()).batch(-1)


def test_windows_per_game_follow_from_the_context() -> None:
    assert StreamSettings(board_size=19, context=64).num_windows == 7
    assert StreamSettings(board_size=9, context=64).num_windows == 2
    assert StreamSettings(board_size=3, context=64).num_windows == 1
    assert math.isclose(StreamSettings().batches_per_chunk, 1024 * 7 / 64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"board_size": 25}, "board_size must be 2 to 19, got 25."),
        ({"player": "me"}, "player must be one of uniform, rules, got me."),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0."),
        ({"context": -1}, "context must be at least 1, got -1."),
        ({"backend": "gpu"}, "backend must be auto, torch or triton, got gpu."),
        ({"context": None}, "windows_per_game must be null or 1 where context is null"),
        ({"batch_size": 3}, "must be a multiple of batch_size, got 3."),
        ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5."),
        ({"batch_size": None}, "batch_size must be a whole number, got None."),
        ({"context": "8"}, "context must be a whole number, got '8'."),
        ({"windows_per_game": True}, "windows_per_game must be a whole number, got True."),
        ({"games_per_chunk": 8.0}, "games_per_chunk must be a whole number, got 8.0."),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5."),
        ({"rules": "full"}, "rules must be a Rules record, got 'full'."),
        ({"player": ["rules"]}, "player must be one of uniform, rules, got ['rules']."),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        settings(**wrong)
    assert message in str(error.value)
