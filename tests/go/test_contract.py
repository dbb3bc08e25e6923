"""Whatever is handed to the engine: a wrong kind is refused, and no value tears a game."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tessera import accelerator
from tessera.go import GPUGoEngine, IllegalMoveError, Rules, play_games
from tessera.go import bitboard as bb
from tests.go.oracle import COLOURS, Oracle
from tests.go.positions import planes
from tests.go.states import WILD, everything, hostile_moves

SIZE, GAMES = 3, 4
WHOLE = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
rule_sets = st.builds(
    Rules,
    ko=st.sampled_from(["simple", "positional", "situational"]),
    suicide=st.booleans(),
    capture=st.sampled_from(["chains", "single"]),
    max_moves=st.just(40),
)


def some_games(rules: Rules | None = None) -> GPUGoEngine:
    """Games in which something has happened."""
    engine = GPUGoEngine(GAMES, "cpu", SIZE, rules or Rules())
    for ply in range(6):
        engine.play_batch(hostile_moves(SIZE, GAMES, ply, seed=3))
    return engine


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


# Tokens.


@settings(deadline=None, max_examples=100)
@given(size=st.integers(2, 4), rules=rule_sets, dtype=st.sampled_from(WHOLE), data=st.data())
def test_whatever_the_tokens_what_cannot_be_played_is_ignored_and_the_rest_is_played(
    size: int, rules: Rules, dtype: torch.dtype, data: st.DataObject
) -> None:
    given_raw, given_pad = (GPUGoEngine(GAMES, "cpu", size, rules) for _ in range(2))
    pad, points = given_raw.vocabulary.pad_token, size**2
    referees = [Oracle(size, rules.ko, rules.suicide, rules.capture) for _ in range(GAMES)]
    bounds = torch.iinfo(dtype)
    near = st.integers(max(bounds.min, -2), points + 2)
    anywhere = st.integers(bounds.min, bounds.max)
    tokens = st.lists(st.one_of(near, near, near, anywhere), min_size=GAMES, max_size=GAMES)
    for _ in range(10):
        moves = data.draw(tokens)
        before = everything(given_raw)
        fits = [
            move == points or (0 <= move < points and referee.grid[move] == ".")
            for move, referee in zip(moves, referees, strict=True)
        ]
        given_raw.play_batch(torch.tensor(moves, dtype=dtype))
        given_pad.play_batch(
            torch.tensor([move if fit else pad for move, fit in zip(moves, fits, strict=True)])
        )
        after = everything(given_raw)
        assert_same(after, everything(given_pad))
        still = [i for i, fit in enumerate(fits) if not fit or referees[i].is_over()]
        assert not after.pop("last_captures")[still].any()
        for name, tensor in after.items():
            assert torch.equal(tensor[still], before[name][still]), name
        for referee, move, fit in zip(referees, moves, fits, strict=True):
            if fit:
                referee.play(move)
        assert_agree(given_raw, referees)


def assert_agree(engine: GPUGoEngine, referees: list[Oracle]) -> None:
    """The engine and the referees see the same games, and allow the same moves in them."""
    boards, mask = engine.boards, engine.get_legal_mask().tolist()
    assert boards.sum(1).eq(1).all(), "a point is black, white or empty, and only one of them"
    for game, referee in enumerate(referees):
        grid = [COLOURS.index(stone) if stone != "." else 2 for stone in referee.grid]
        assert boards[game].int().argmax(0).flatten().tolist() == grid
        assert int(engine.turn[game]) == referee.turn
        assert engine.captured[game].tolist() == referee.captured
        assert bool(engine.is_game_over()[game]) == referee.is_over()
        assert mask[game] == referee.legal()


def test_a_checked_call_with_any_wrong_token_changes_no_game() -> None:
    engine = some_games()
    before = everything(engine)
    free = int(engine.get_legal_mask()[0].nonzero()[0])
    taken = int(engine.boards[1, :2].any(0).flatten().nonzero()[0])
    for wrong in (*WILD, SIZE**2 + 1, taken):
        with pytest.raises(IllegalMoveError, match=r"game 1: .* is illegal for"):
            engine.play_batch(torch.tensor([free, wrong, SIZE**2, SIZE**2]), check=True)
        assert_same(everything(engine), before)


def test_pad_lets_some_games_go_on_and_the_others_wait() -> None:
    engine = GPUGoEngine(2, "cpu", 9)
    engine.play_batch(torch.tensor([engine.vocabulary.pad_token, 40]))
    assert engine.move_number.tolist() == [0, 1]
    assert engine.turn.tolist() == [0, 1]
    assert engine.boards[:, 0].sum((1, 2)).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", WHOLE)
def test_every_dtype_of_whole_numbers_and_every_layout_gives_the_same_games(
    dtype: torch.dtype,
) -> None:
    engine, plain = (GPUGoEngine(GAMES, "cpu", SIZE) for _ in range(2))
    moves = torch.tensor([0, 4, 8, 9])
    spread = torch.zeros(2 * GAMES, dtype=dtype)
    spread[::2] = moves.to(dtype)
    engine.play_batch(spread[::2])
    plain.play_batch(moves)
    boards = planes("X.O .X. O..").expand(GAMES, -1, -1, -1)
    turned = boards.to(dtype).transpose(2, 3).contiguous().transpose(2, 3)
    mask = torch.tensor([True, False] * GAMES)[: 2 * GAMES : 2]
    engine.set_position(turned, spread[::2] % 2, mask)
    plain.set_position(boards, moves % 2, mask.clone())
    assert_same(everything(engine), everything(plain))


# Other kinds of arguments.

NO_MOVES = [torch.zeros(GAMES), torch.zeros(GAMES, dtype=torch.bool), torch.zeros(1).long()]
NO_MOVES += [torch.zeros(GAMES, 1).long(), torch.zeros(()).long(), [0] * GAMES, np.zeros(GAMES), 3]
NO_MASK = [
    torch.ones(1).bool(),
    torch.ones(GAMES).long(),
    torch.ones(GAMES, 1).bool(),
    [True],
    True,
]
BOARDS = torch.zeros(GAMES, 3, SIZE, SIZE, dtype=torch.bool)
TURN = torch.zeros(GAMES, dtype=torch.int64)
NO_BOARDS = [BOARDS[:1], BOARDS[:, :1], BOARDS.float(), BOARDS[..., :2], BOARDS.tolist(), None]
TWO_STONES = BOARDS.clone()
TWO_STONES[2, :2, 1, 1] = True
NO_TURN = [TURN + 2, TURN - 1, TURN.float(), TURN.bool(), TURN[:1], 0]
NO_GAMES = [torch.tensor([GAMES]), torch.tensor([-1]), torch.tensor([0.0]), torch.ones(4).bool()]
NO_GAMES += [torch.zeros(1, 1).long(), [0]]

Call = Callable[[GPUGoEngine, Any], object]
CALLS: dict[str, tuple[Call, list[Any]]] = {
    "moves": (lambda engine, wrong: engine.play_batch(wrong), NO_MOVES),
    "checked moves": (lambda engine, wrong: engine.play_batch(wrong, check=True), NO_MOVES),
    "mask": (lambda engine, wrong: engine.reset(wrong), NO_MASK),
    "boards": (lambda engine, wrong: engine.set_position(wrong, TURN), [*NO_BOARDS, TWO_STONES]),
    "turn": (lambda engine, wrong: engine.set_position(BOARDS, wrong), NO_TURN),
    "mask of set_position": (
        lambda engine, wrong: engine.set_position(BOARDS, TURN, wrong),
        NO_MASK,
    ),
    "games": (lambda engine, wrong: engine.keep(wrong), NO_GAMES),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ko", ["simple", "positional"])
def test_a_wrong_kind_of_argument_is_named_and_changes_nothing(name: str, ko: str) -> None:
    call, wrong_ones = CALLS[name]
    engine = some_games(Rules(ko=ko))
    before, legal = everything(engine), engine.legal_rows()
    for wrong in wrong_ones:
        with pytest.raises(ValueError, match="must") as error:
            call(engine, wrong)
        assert "\n" not in str(error.value)
        assert str(error.value).split()[0] in name
        assert_same(everything(engine), before)
        assert torch.equal(engine.legal_rows(), legal)


def test_only_the_chosen_games_of_a_position_are_looked_at() -> None:
    engine = some_games()
    before = everything(engine)
    chosen = torch.tensor([False, True, False, False])
    engine.set_position(TWO_STONES, torch.tensor([7, 1, -3, 2]), chosen)
    after = everything(engine)
    assert int(engine.turn[1]) == 1 and not engine.boards[1, :2].any()
    for name, tensor in after.items():
        assert torch.equal(tensor[~chosen], before[name][~chosen]), name


def test_what_is_read_off_the_games_is_a_copy() -> None:
    engine = some_games()
    before, mask = everything(engine), engine.get_legal_mask()
    for read in (engine.legal_rows, engine.get_legal_mask, lambda: engine.boards, engine.score):
        read().zero_()
    assert_same(everything(engine), before)
    assert torch.equal(engine.get_legal_mask(), mask)


def test_games_may_be_kept_in_any_order_and_more_than_once() -> None:
    engine = some_games()
    before = everything(engine)
    order = torch.tensor([3, 0, 3], dtype=torch.int32)
    engine.keep(order)
    for name, tensor in everything(engine).items():
        assert torch.equal(tensor, before[name][order.long()]), name
    engine.keep(order[:0])
    assert engine.batch_size == 0 and engine.boards.shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (2.5, "batch_size must be a whole number, got 2.5."),
        ("4", "batch_size must be a whole number, got '4'."),
        (True, "batch_size must be a whole number, got True."),
        (None, "batch_size must be a whole number, got None."),
        (torch.tensor([4, 4]), r"batch_size must be a whole number, got \(2,\) int64."),
        (-1, "batch_size must be at least 1, got -1."),
    ],
)
def test_a_batch_size_is_a_whole_number(batch_size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPUGoEngine(batch_size, "cpu", SIZE)


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    engine = GPUGoEngine(np.int64(2), "cpu", np.uint8(5), Rules(max_moves=np.int32(7)))
    assert (engine.batch_size, engine.board_size, engine.max_moves) == (2, 5, 7)
    assert type(engine.board_size) is int and type(engine.max_moves) is int


@pytest.mark.parametrize("device", ["gpu", 1.5, None, "cuda:99"])
def test_what_is_no_device_is_refused_in_one_line(device: Any) -> None:
    with pytest.raises(ValueError, match="device must be") as error:
        GPUGoEngine(1, device, SIZE)
    assert "\n" not in str(error.value)


# Sizes that no machine has.


@pytest.mark.parametrize("size", [2, 9, 19])
@pytest.mark.parametrize("ko", ["simple", "positional", "situational"])
@pytest.mark.parametrize("max_moves", [None, 1, 33])
def test_a_game_takes_the_bytes_that_its_rules_say(size: int, ko: Any, max_moves: Any) -> None:
    rules = Rules(ko=ko, max_moves=max_moves)
    engine = GPUGoEngine(3, "cpu", size, rules)
    assert engine.num_bytes() == 3 * rules.bytes_per_game(size)


def test_more_games_than_there_is_memory_for_are_refused_before_any_is_made() -> None:
    with pytest.raises(MemoryError) as error:
        GPUGoEngine(10**13, "cpu", 19)
    said = str(error.value)
    assert said.startswith(
        "out of memory: batch_size (=10000000000000) games need 76,247,380 GiB of memory, cpu "
    )
    for numbers in (range(10**13), range(10**30)):
        with pytest.raises(
            MemoryError, match=r"the record of 10+ games needs [\d,]+ GiB of memory"
        ):
            play_games("uniform", numbers, seed=0, board_size=9)
    with pytest.raises(MemoryError, match=r"batch_size \(=1000\) games need"):
        GPUGoEngine(1000, "cpu", 19, Rules(max_moves=10**9))


def test_all_of_the_memory_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 4 * Rules().bytes_per_game(9)
    monkeypatch.setattr(accelerator, "device_memory", lambda device: needed)
    GPUGoEngine(4, "cpu", 9)
    with pytest.raises(MemoryError):
        GPUGoEngine(5, "cpu", 9)


# Rules, records and boards.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"komi": float("nan")}, "komi must be a number from -1e+30 to 1e+30, got nan."),
        ({"komi": float("inf")}, "got inf."),
        ({"komi": 10**400}, "komi must be a number"),
        ({"komi": "7.5"}, "got '7.5'."),
        ({"komi": True}, "got True."),
        ({"max_moves": 0}, "max_moves must be at least 1, got 0."),
        ({"max_moves": 2.5}, "max_moves must be a whole number, got 2.5."),
        ({"max_moves": True}, "max_moves must be a whole number, got True."),
        ({"max_moves": 10**12}, "max_moves must be at most 1000000000, got 10"),
        ({"suicide": "no"}, "suicide must be true or false, got 'no'."),
        ({"ko": ["simple"]}, "ko must be one of simple, positional, situational, got"),
        ({"score": "territory"}, "score must be one of area, pass_alive, got territory."),
        (
            {"score": "pass_alive", "capture": "single"},
            "score must be area where only single stones are captured, got pass_alive.",
        ),
    ],
)
def test_wrong_rules_are_named_with_their_value(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        Rules(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"numbers": [0, 1]}, r"numbers must be a tensor \(any,\) of whole numbers, got list."),
        ({"numbers": torch.tensor([0.5])}, r"whole numbers, got \(1,\) float32."),
        ({"numbers": torch.zeros(2, 2).long()}, r"got \(2, 2\) int64."),
        ({"numbers": range(3, 3)}, "numbers must name at least one game, got none."),
        ({"numbers": range(2**62, 2**62 + 1)}, r"numbers must be -2\^61 to 2\^61, got"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5."),
        ({"board_size": True}, "board_size must be 2 to 19, got True."),
        ({"rules": ["full"]}, "rules must be one of full, phase2, tromp-taylor, got"),
        ({"player": ["uniform"]}, "player must be one of uniform, rules, got"),
        ({"backend": None}, "backend must be one of auto, torch, triton, got None."),
    ],
)
def test_wrong_arguments_of_a_record_are_named(wrong: dict, message: str) -> None:
    right = {"player": "uniform", "numbers": range(2), "seed": 0, "board_size": 3}
    with pytest.raises(ValueError, match=message):
        play_games(**{**right, **wrong})


def test_ranges_with_any_step_name_their_games() -> None:
    for numbers in (range(5, 0, -2), range(-3, 4, 3), range(7, 8, 2**70)):
        record = play_games("uniform", numbers, seed=0, board_size=2)
        assert record.numbers.tolist() == list(numbers)
    every_other = torch.arange(12)[::4]
    assert torch.equal(
        play_games("uniform", every_other, seed=0, board_size=3).moves,
        play_games("uniform", range(0, 12, 4), seed=0, board_size=3).moves,
    )


@pytest.mark.parametrize(
    "points", [torch.zeros(2, 3, 4), torch.zeros(2, 3, 3), torch.zeros(3, 3).bool(), [[0]], None]
)
def test_only_square_boards_of_whole_numbers_are_packed(points: Any) -> None:
    with pytest.raises(ValueError, match="points must be a tensor"):
        bb.pack(points)
