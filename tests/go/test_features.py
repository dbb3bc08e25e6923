"""What a model is told of positions, against the slow oracle, drawn boards and a second playing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tessera.go import GameLoop, GameRecord, GPUGoEngine, Rules, get_player, kept_tables, play_games
from tessera.go.bitboard import unpack
from tessera.go.features import (
    BOARD_SETS,
    LANDMARK_SETS,
    board_rows,
    landmark_rows,
    replayed,
)
from tests.go.oracle import EMPTY, Oracle
from tests.go.positions import engine_at, planes, play

NEEDS = ("board", "landmarks")  # what records keep: a position is made of the board

# Player, board size, rules and games: every ko rule, with suicide and without, and single stones.
CASES = {
    "full": ("uniform", 5, Rules(), 10),
    "full-7": ("rules", 7, Rules(), 6),
    "tromp-taylor": ("uniform", 4, Rules(suicide=True), 12),
    "simple": ("rules", 7, Rules(ko="simple"), 6),
    "simple-suicide": ("uniform", 4, Rules(ko="simple", suicide=True, max_moves=40), 12),
    "situational-suicide": ("rules", 3, Rules(ko="situational", suicide=True), 12),
    "phase2": ("rules", 5, Rules(ko="simple", capture="single"), 12),
}


def played(case: str, **options: object) -> GameRecord:
    player, size, rules, games = CASES[case]
    return play_games(
        player, range(games), seed=3, board_size=size, rules=rules, needs=NEEDS, **options
    )


def points_of(entry: Tensor) -> list[set[int]]:
    """The tokens in each set of one entry (R, n)."""
    return [set(rows.flatten().nonzero().squeeze(1).tolist()) for rows in unpack(entry.t())]


def chains_in_atari(oracle: Oracle, colour: str) -> list[set[int]]:
    """The chains of a colour with one liberty, found by walking."""
    found: list[set[int]] = []
    for point, stone in enumerate(oracle.grid):
        if stone == colour and not any(point in chain for chain in found):
            chain, _ = oracle.connected(oracle.grid, point)
            beside = {other for inside in chain for other in oracle.adjacent[inside]}
            liberties = [other for other in beside if oracle.grid[other] == EMPTY]
            if len(liberties) == 1 and (oracle.capture == "chains" or len(chain) == 1):
                found.append(chain)
    return found


def told(oracle: Oracle, last: int, taken: set[int], is_over: bool) -> dict[str, set[int]]:
    """All sets by name as the oracle has them; ``last`` is the last move, n² for none."""
    own, opponent = "XO"[oracle.turn], "OX"[oracle.turn]
    mine, theirs = (chains_in_atari(oracle, colour) for colour in (own, opponent))
    points = range(oracle.size**2)
    only = ("ko", "") if is_over else ("ko",)
    refused = [point for point in points if oracle.refuses(point) in only]
    attacked: set[int] = set()
    if last < oracle.size**2:
        beside = oracle.adjacent[last]
        attacked = set().union(*(chain for chain in mine if chain.intersection(beside)))
    return {
        "own": {point for point in points if oracle.grid[point] == own},
        "opponent": {point for point in points if oracle.grid[point] == opponent},
        "atari": set().union(*mine, *theirs),
        "taken": taken,
        "forbidden": set(refused),
        "large_atari": attacked if len(attacked) >= 5 else set(),
    }


@pytest.mark.parametrize("case", CASES)
def test_a_record_tells_of_every_position_what_the_oracle_finds(case: str) -> None:
    record = played(case)
    rules, size = record.rules, record.board_size
    seen = dict.fromkeys([*BOARD_SETS, *LANDMARK_SETS], 0)
    for game, length in enumerate(record.lengths.tolist()):
        oracle = Oracle(size, rules.ko, rules.suicide, rules.capture)
        assert not record.board[game, 0].any() and not record.landmarks[game, 0].any()
        for ply, move in enumerate(record.moves[game, :length].tolist()):
            before, theirs = oracle.grid, "OX"[oracle.turn]
            oracle.play(move)
            pairs = enumerate(zip(before, oracle.grid, strict=True))
            taken = {point for point, (old, new) in pairs if old == theirs and new == EMPTY}
            # By the move limit too, of which the oracle does not know.
            expected = told(oracle, move, taken, is_over=ply + 1 == length)
            for names, table in ((BOARD_SETS, record.board), (LANDMARK_SETS, record.landmarks)):
                found = dict(zip(names, points_of(table[game, ply + 1]), strict=True))
                assert found == {name: expected[name] for name in names}, (game, ply)
                for name in names:
                    seen[name] += len(found[name])
        assert not record.board[game, length + 1 :].any()
        assert not record.landmarks[game, length + 1 :].any()
    possible = set(seen) - ({"large_atari"} if size < 5 or case == "phase2" else set())
    assert not [name for name in possible if not seen[name]]


@pytest.mark.parametrize("case", CASES)
def test_games_that_are_played_again_tell_the_same(case: str) -> None:
    record = played(case)
    for name in NEEDS:
        again = replayed(name, record.moves, record.board_size, record.rules, "cpu")
        assert again.dtype == torch.int32 and torch.equal(again, getattr(record, name)), name


@pytest.mark.parametrize("case", ["full", "tromp-taylor"])
def test_games_that_follow_each_other_tell_what_those_at_once_do(case: str) -> None:
    record = played(case)
    player, size, rules, games = CASES[case]
    loop = GameLoop(
        get_player(player),
        games,
        3,
        board_size=size,
        rules=rules,
        seed=3,
        tables=kept_tables(NEEDS),
    )
    loop.play(torch.arange(games) + 100)  # other games before, in the same tables
    again = loop.play(torch.arange(games)).trimmed()
    for name in NEEDS:
        assert torch.equal(getattr(again, name), getattr(record, name)), name


def sets_of(engine: GPUGoEngine) -> dict[str, set[str]]:
    """The vertices in every set of the first game."""
    vertex, found = engine.vocabulary.vertex, {}
    for names, rows in ((BOARD_SETS, board_rows(engine)), (LANDMARK_SETS, landmark_rows(engine))):
        assert rows.shape == (engine.batch_size, len(names), engine.board_size)
        for name, points in zip(names, points_of(rows[0]), strict=True):
            vertices = {vertex(point) for point in points}
            assert found.setdefault(name, vertices) == vertices
    return found


@pytest.mark.parametrize("ko", ["simple", "positional", "situational"])
def test_a_ko_that_was_taken_is_told_until_it_may_be_retaken(ko: str) -> None:
    engine = GPUGoEngine(2, "cpu", 5, Rules(ko=ko))
    play(engine, "B3", "C3", "C4", "D4", "C2", "D2", "A1", "E3")
    assert sets_of(engine)["atari"] == {"C3"} and not sets_of(engine)["taken"]
    play(engine, "D3")
    said = sets_of(engine)
    assert said["taken"] == said["forbidden"] == {"C3"}
    assert said["own"] == {"D4", "D2", "E3"} and "D3" in said["opponent"]
    assert said["atari"] == {"D3"} and not said["large_atari"]
    play(engine, "E5")
    assert not sets_of(engine)["taken"] and not sets_of(engine)["forbidden"]
    play(engine, "A5", "C3")
    assert sets_of(engine)["taken"] == sets_of(engine)["forbidden"] == {"D3"}
    play(engine, "pass")
    assert not sets_of(engine)["taken"] and not sets_of(engine)["forbidden"]


@pytest.mark.parametrize("ko", ["simple", "positional", "situational"])
def test_superko_alone_forbids_to_send_two_and_return_one(ko: str) -> None:
    engine = GPUGoEngine(1, "cpu", 5, Rules(ko=ko))
    play(engine, "A2", "C2", "B2", "D1", "E5", "B1", "E4", "A1", "C1")
    said = sets_of(engine)
    assert said["taken"] == {"A1", "B1"}
    assert said["forbidden"] == ({"B1"} if ko == "positional" else set())


def test_what_a_suicide_takes_off_is_not_taken_from_the_player_to_move() -> None:
    engine = engine_at("X.O.. XXO.. OOO.. ..... .....", rules=Rules(suicide=True))
    play(engine, "B5")
    assert engine.last_captures.tolist() == [4] and not sets_of(engine)["taken"]
    assert sets_of(engine)["own"] == {"C5", "C4", "A3", "B3", "C3"}


TWO_SIDES = "..X.. .XOX. X..OX .X.X. ....."


@pytest.mark.parametrize(
    ("board", "expected"), [(TWO_SIDES, {"C4", "D3"}), (TWO_SIDES[::-1], {"C2", "B3"})]
)
def test_what_is_taken_on_two_sides_is_told_and_an_eye_on_the_third_is_not(
    board: str, expected: set[str]
) -> None:
    engine = engine_at(board)
    play(engine, "C3")
    assert engine.last_captures.tolist() == [2] and sets_of(engine)["taken"] == expected


def test_a_new_position_and_a_move_that_takes_nothing_have_nothing_taken() -> None:
    board = "OX... .X... ..... ..... ....."
    for moves in (("pass",), ("E1", "D1")):
        engine = engine_at(board, rules=Rules(max_moves=9))
        play(engine, "A4")
        assert sets_of(engine)["taken"] == {"A5"}
        play(engine, *moves)
        assert not sets_of(engine)["taken"] and not engine.taken_sides.any()
    engine = engine_at(board)
    play(engine, "A4")
    engine.set_position(planes(board), torch.tensor([0]))
    assert not sets_of(engine)["taken"]
    play(engine, "E1", "pass")
    engine.reset()
    assert not board_rows(engine).any() and not landmark_rows(engine).any()


def test_a_game_that_waits_or_is_over_looks_as_before() -> None:
    # Beside others that go on it must say the same however long it waits.
    board = "OX... .X... ..... ..... ....."
    for max_moves in (1, 9):
        engine = engine_at(board, rules=Rules(max_moves=max_moves))
        play(engine, "A4")
        before = board_rows(engine), landmark_rows(engine)
        for token in (engine.vocabulary.pad_token, engine.vocabulary.token("B5")):
            engine.play_batch(torch.tensor([token]))
            assert sets_of(engine)["taken"] == {"A5"}
            for rows, found in zip(
                before, (board_rows(engine), landmark_rows(engine)), strict=True
            ):
                assert torch.equal(rows, found)


@pytest.mark.parametrize(
    ("board", "move", "expected"),
    [
        # Five stones whose last but one liberty was taken, and four.
        ("XXXXX OOOO. ..... ..... .....", "E4", set()),
        ("XXXX. OOOO. ..... ..... .....", "E5", set()),
        ("XXXX.. X.OO.. OOO... ...... ...... ......", "E6", {"A6", "B6", "C6", "D6", "A5"}),
        ("XXXX.. .OOO.. OOO... ...... ...... ......", "E6", set()),
        # Two chains that the move leaves with a liberty each, five stones together.
        (".XX.XXX OOOOOO. ....... ....... ....... ....... .......", "D7", {*"BCEFG"}),
        (".XX.XX. OOOOOO. ....... ....... ....... ....... .......", "D7", set()),
    ],
)
def test_a_large_atari_is_one_that_the_last_move_gave(
    board: str, move: str, expected: set[str]
) -> None:
    engine = engine_at(board, turn=1)
    play(engine, move)
    expected = {vertex + "7" if len(vertex) == 1 else vertex for vertex in expected}
    assert sets_of(engine)["large_atari"] == expected
    # A move elsewhere: the atari is an old one.
    play(engine, "pass", "pass" if not expected else "A1")
    assert not sets_of(engine)["large_atari"]


def test_a_table_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"features must be one of board, position, landmarks, got"
    ):
        replayed("none", torch.zeros(1, 2, dtype=torch.int64), 5, "full", "cpu")
