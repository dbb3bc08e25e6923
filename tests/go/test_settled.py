"""Settled points are those of the definition: published boards, drawn ones, and a slow oracle."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tessera.go import GPUGoEngine, Rules, play_games, settled_points
from tessera.go import bitboard as bb
from tests.go.positions import engine_at, grown_boards, planes
from tests.go.settled_oracle import pass_alive, settled_map
from tests.go.test_properties import random_stones

DATA = Path(__file__).parent / "data"
SOURCES = ("katago_pass_alive", "minigo_pass_alive_9x9", "minigo_pass_alive_19x19")

# Minigo fills regions of any size, here corners of six and of four empty points that no stone
# touches. A definition by what the opponent cannot undo leaves room for two eyes there.
LARGER_REGIONS = {"minigo_pass_alive_9x9 9x9 #5", "minigo_pass_alive_9x9 9x9 #8"}


def published() -> dict[str, list[list[str]]]:
    """By name the columns of each published board: the board, then what is settled on it."""
    cases = {}
    for source in SOURCES:
        _, *blocks = (DATA / f"{source}.txt").read_text().strip().split("\n\n")
        for block in blocks:
            name, *rows = block.splitlines()
            columns = zip(*(row.split() for row in rows), strict=True)
            cases[f"{source} {name}"] = [list(column) for column in columns]
    return cases


PUBLISHED = published()


def map_of(board: list[str], suicide: bool) -> list[str]:
    """What ``settled_points`` says of one board, drawn as the oracle draws it."""
    found = settled_points(planes(" ".join(board)), suicide)
    black, white = bb.unpack(found.black)[0].int(), bb.unpack(found.white)[0].int()
    return ["".join(".XO"[point] for point in row) for row in (black + 2 * white).tolist()]


def over(board: list[str], settled: list[str]) -> list[str]:
    """The board with the settled points drawn over it."""
    pairs = zip(board, settled, strict=True)
    return ["".join(s if s != "." else b for b, s in zip(*rows, strict=True)) for rows in pairs]


def test_the_published_boards_are_all_there() -> None:
    sizes = [len(columns) for columns in PUBLISHED.values()]
    assert (sizes.count(3), sizes.count(2)) == (11, 33) and set(PUBLISHED) > LARGER_REGIONS


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_boards_are_settled_as_published(name: str) -> None:
    board, *expected = PUBLISHED[name]
    for suicide, settled in zip((False, True), expected, strict=False):
        # The engine has no rectangles; there the oracle, which has, answers for both.
        find = map_of if len(board) == len(board[0]) else settled_map
        assert settled_map(board, suicide) == find(board, suicide)
        found = find(board, suicide)
        if "minigo" in name:
            found = over(board, found)
        assert (found == settled) == (name not in LARGER_REGIONS)


DRAWN = {
    "one eye": ("XXX.. X.X.. XXX.. ..... .....", "..... ..... ..... ..... ....."),
    "two eyes": (".X.X. XXXX. ..... ..... .....", "XXXX. XXXX. ..... ..... ....."),
    "a false eye": (".XO.. XXO.. X.XO. OXXO. .OO..", "..... ..... ..... ..... ....."),
    "the same eye made true": (".XO.. XXX.. X.XO. OXXO. .OO..", "XX... XXX.. XXX.. .XX.. ....."),
    "seki": ("XX.OO XXXOO XXOOO XXOOO XX.OO", "..... ..... ..... ..... ....."),
    "a dragon with two heads": (
        "..XX... .XX.X.. .X.XXX. .X...X. .XXX.X. ..X.XX. ...XX..",
        "..XX... .XXXX.. .XXXXX. .XXXXX. .XXXXX. ..XXXX. ...XX..",
    ),
    "a dragon with one head": (
        "..X.... .XX.X.. .X.XXX. .X...X. .XXX.X. ..X.XX. ...XX..",
        "....... ....... ....... ....... ....... ....... .......",
    ),
    "life inside life": (
        ".OOOOOO O.....O OXXXXXO OX.X.XO OXXXXXO O.....O OOOOOO.",
        "OOOOOOO O.....O OXXXXXO OXXXXXO OXXXXXO O.....O OOOOOOO",
    ),
    "too much room to be dead": (
        ".OOOOOO O.....O OXXXXXO OX.XXXO OXXXXXO O.....O OOOOOO.",
        "OOOOOOO O.....O O.....O O.....O O.....O O.....O OOOOOOO",
    ),
    "dead stones with one eye": (".OOOO OXX.O OX.XO O.XXO OOOO.", "OOOOO OOOOO OOOOO OOOOO OOOOO"),
    "a stone far from the chain": (
        "O.X.. .XXX. XX.X. .XXX. .....",
        "XXX.. XXXX. XXXX. .XXX. .....",
    ),
    "an empty board": ("... ... ...", "... ... ..."),
    "two points": ("X. .X", "XX XX"),
    "a board of one colour but two eyes": (".X. XXX XXX", "XXX XXX XXX"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_boards_are_settled_as_drawn(name: str) -> None:
    board, expected = (drawing.split() for drawing in DRAWN[name])
    assert map_of(board, suicide=False) == expected == settled_map(board, suicide=False)
    if name != "a stone far from the chain":
        assert map_of(board, suicide=True) == expected


def test_with_suicide_a_region_has_to_touch_with_its_enemy_stones_too() -> None:
    board = DRAWN["a stone far from the chain"][0].split()
    assert map_of(board, suicide=True) == ["....."] * 5


def played_boards(size: int, games: int) -> Tensor:
    """(games, 3, n, n) positions of uniform games, each at some ply towards its end."""
    record = play_games("uniform", range(games), seed=size, board_size=size)
    engine = GPUGoEngine(games, "cpu", size)
    for ply, moves in enumerate(record.moves.long().t()):
        stops = ply > record.lengths * (0.5 + 0.5 * torch.arange(games) / games)
        engine.play_batch(torch.where(stops, engine.vocabulary.pad_token, moves))
    return engine.boards


def assert_as_in_the_oracle(boards: Tensor, suicide: bool) -> int:
    """Compare all four sets of every board; how many points were settled."""
    found = [bb.unpack(rows) for rows in astuple(settled_points(boards, suicide))]
    for board, planes_of, *sets in zip(range(len(boards)), boards.int(), *found, strict=True):
        rows = [
            "".join(".XO"[x] for x in row) for row in (planes_of[0] + 2 * planes_of[1]).tolist()
        ]
        (black, black_land), (white, white_land) = (pass_alive(rows, c, suicide) for c in "XO")
        for points, expected in zip(sets, (black, white, black_land, white_land), strict=True):
            assert {tuple(point) for point in points.nonzero().tolist()} == expected, (board, rows)
    return int(sum(points.sum() for points in found))


@pytest.mark.parametrize("size", range(2, 20))
def test_random_positions_are_settled_as_in_the_oracle(size: int) -> None:
    # Chains without liberties are among them: what is settled is defined all the same.
    boards = grown_boards(size, 40 if size < 10 else 12, seed=size)
    scattered = torch.stack(random_stones(size, 8, seed=size), 1)
    for suicide in (False, True):
        assert assert_as_in_the_oracle(boards, suicide) > 0
        assert_as_in_the_oracle(scattered, suicide)


@pytest.mark.parametrize("size", [2, 5, 9])
def test_positions_of_games_are_settled_as_in_the_oracle(size: int) -> None:
    for suicide in (False, True):
        assert assert_as_in_the_oracle(played_boards(size, 16), suicide) > 0


# Properties.

sizes, seeds = st.integers(2, 19), st.integers(0, 2**40)


@settings(deadline=None, max_examples=15)
@given(size=sizes, seed=seeds, suicide=st.booleans())
def test_exchanging_the_colours_exchanges_what_is_settled(
    size: int, seed: int, suicide: bool
) -> None:
    boards = grown_boards(size, 6, seed)
    found, other = (settled_points(b, suicide) for b in (boards, boards[:, [1, 0]]))
    assert torch.equal(found.black_stones, other.white_stones)
    assert torch.equal(found.white_stones, other.black_stones)
    assert torch.equal(found.black_territory, other.white_territory)
    assert torch.equal(found.white_territory, other.black_territory)


@settings(deadline=None, max_examples=15)
@given(size=sizes, seed=seeds, suicide=st.booleans())
def test_a_turned_or_mirrored_board_is_settled_alike(size: int, seed: int, suicide: bool) -> None:
    boards = grown_boards(size, 4, seed)
    found = [bb.unpack(rows) for rows in astuple(settled_points(boards, suicide))]
    for turns in range(4):
        for mirrored in (False, True):

            def moved(points: Tensor, turns: int = turns, mirrored: bool = mirrored) -> Tensor:
                turned = points.rot90(turns, (-2, -1))
                return turned.flip(-1) if mirrored else turned

            there = astuple(settled_points(moved(boards), suicide))
            for points, rows in zip(found, there, strict=True):
                assert torch.equal(moved(points), bb.unpack(rows))


@settings(deadline=None, max_examples=25)
@given(size=sizes, seed=seeds, suicide=st.booleans())
def test_no_point_is_settled_twice_and_stones_are_stones(
    size: int, seed: int, suicide: bool
) -> None:
    boards = grown_boards(size, 8, seed)
    found = settled_points(boards, suicide)
    black, white = bb.pack(boards[:, 0]), bb.pack(boards[:, 1])
    counts = sum(bb.unpack(rows).int() for rows in astuple(found))
    assert int(counts.max()) <= 1
    assert not (found.black_stones & ~black).any() and not (found.white_stones & ~white).any()
    assert not (found.black_territory & black).any() and not (found.white_territory & white).any()
    # Suicide gives the opponent more to try.
    if suicide:
        more = settled_points(boards)
        assert not (found.black & ~more.black).any() and not (found.white & ~more.white).any()


# The engine's own boards, and what is refused.


@pytest.mark.parametrize("rules", ["full", "tromp-taylor"])
def test_the_engine_settles_its_boards_by_its_rules_whoever_moves(rules: str) -> None:
    record = play_games("uniform", range(30), seed=3, board_size=7, rules=rules)
    engine = GPUGoEngine(30, "cpu", 7, rules)
    for moves in record.moves.long().t()[:81]:
        engine.play_batch(moves)
    assert engine.turn.unique().numel() == 2
    expected = settled_points(engine.boards, suicide=rules == "tromp-taylor")
    assert expected.black.any() and expected.white.any()
    for found, same in zip(astuple(engine.settled_points()), astuple(expected), strict=True):
        assert torch.equal(found, same)


def test_suicide_in_the_rules_makes_the_difference() -> None:
    board = DRAWN["a stone far from the chain"][0]
    assert engine_at(board, rules="full").settled_points().black.any()
    assert not engine_at(board, rules="tromp-taylor").settled_points().black.any()


def test_rules_that_capture_single_stones_settle_nothing() -> None:
    with pytest.raises(ValueError, match="need rules that capture chains, got capture single"):
        engine_at("X. .X", rules=Rules(ko="simple", capture="single")).settled_points()


def test_no_boards_at_all_are_no_mistake() -> None:
    for rows in astuple(settled_points(torch.zeros(0, 2, 5, 5, dtype=torch.bool))):
        assert rows.shape == (5, 0)


@pytest.mark.parametrize(
    "boards",
    [
        None,
        torch.zeros(5, 5, dtype=torch.bool),
        torch.zeros(1, 4, 5, 5, dtype=torch.bool),
        torch.zeros(1, 2, 5, 6, dtype=torch.bool),
        torch.zeros(1, 2, 5, 5),
        torch.zeros(1, 2, 1, 1, dtype=torch.bool),
        torch.zeros(1, 2, 20, 20, dtype=torch.bool),
    ],
)
def test_what_is_no_board_is_refused(boards: Tensor | None) -> None:
    with pytest.raises(ValueError, match="boards must"):
        settled_points(boards)


def test_a_backend_that_cannot_run_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="backend triton needs a CUDA device"):
        settled_points(torch.zeros(1, 2, 5, 5, dtype=torch.bool), backend="triton")
