"""Given games against the rules, and against sgfmill as an independent referee."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from sgfmill.boards import Board

from tessera.go import RULES, Rules, play_games
from tessera.play import referee
from tessera.play.referee import Verdict, judge
from tessera.vocabulary import Vocabulary

FULL = RULES["full"]

# White takes the stone on D3; black may not retake on the same point at once.
KO = "C4 D4 B3 E3 C2 D2 D3 C3"


def verdict(vertices: str, board_size: int = 5, rules: Rules = FULL) -> Verdict:
    """What is said of a single game."""
    vocabulary = Vocabulary(board_size)
    (only,) = judge([[vocabulary.token(v) for v in vertices.split()]], board_size, rules)
    return only


@pytest.mark.parametrize("ko", ["simple", "positional", "situational"])
@pytest.mark.parametrize(
    ("vertices", "fault"),
    [
        ("", None),
        ("C3 C4 C5", None),
        ("C3 C3 C3", "move 2: C3 is occupied."),
        ("C3 pass C4 pass pass", None),
        ("C3 pass pass C4 C3", "move 4: the game is over after two passes."),
        ("pass pass pass", "move 3: the game is over after two passes."),
        (f"{KO} D3", "move 9: D3 retakes a ko at once."),
        (f"{KO} A1 A2 D3", None),
        ("A2 C3 B1 A1", "move 4: A1 is suicide, which the model's rules forbid."),
    ],
)
def test_the_first_illegal_move_is_named(vertices: str, fault: str | None, ko: str) -> None:
    assert verdict(vertices, rules=replace(FULL, ko=ko)) == Verdict(fault=fault)


def test_games_are_judged_by_the_rules_that_the_model_learned() -> None:
    assert verdict("A2 C3 B1 A1", rules=RULES["tromp-taylor"]).fault is None
    # Black takes two stones, but not where only single stones are captured.
    taken = "A2 A1 B2 B1 C1 C5 A1"
    assert verdict(taken).fault is None
    assert verdict(taken, rules=RULES["phase2"]).fault == "move 7: A1 is occupied."


def test_a_move_past_the_limit_is_named() -> None:
    rules = replace(FULL, max_moves=4)
    assert verdict("A1 B1 C1 D1", rules=rules) == Verdict()
    text = "the game is over after 4 moves (the model's data.max_moves)."
    assert verdict("A1 B1 C1 D1 E1 E1", rules=rules) == Verdict(fault=f"move 5: {text}")
    assert verdict("A1 B1 B1 D1 E1 E1", rules=rules).fault == "move 3: B1 is occupied."
    assert verdict("pass A1 " * 25).fault == "move 4: A1 is occupied."


@pytest.mark.parametrize(
    ("ko", "forbids"), [("simple", False), ("positional", True), ("situational", False)]
)
def test_superko_is_a_warning_of_the_rules_that_have_it(ko: str, forbids: bool) -> None:
    # The last stone is a suicide: the position before it stands again, the other's turn.
    rules = Rules(ko=ko, suicide=True)
    text = f"repeats a position, which the model's rules forbid (ko {ko})."
    expected = Verdict(warning=f"move 5: A1 {text}" if forbids else None)
    assert verdict("C3 A2 pass B1 A1", 3, rules) == expected
    # The game goes on from there, and only its first repetition is told.
    again = verdict("C3 A2 pass B1 A1 pass A1", 3, rules)
    assert again == (Verdict(warning=f"move 7: A1 {text}") if ko == "situational" else expected)
    assert verdict("C3 A2 pass B1 A1 C3", 3, rules).fault == "move 6: C3 is occupied."


def expected_verdict(moves: list[int], size: int, rules: Rules) -> tuple[str, int, int]:
    """Kind and ply of the first fault, and the ply of the first repetition; -1 for none."""
    board, passes, ko_point = Board(size), 0, None
    seen = {(str(board.board), 0 if rules.ko == "situational" else None)}
    repeats = -1
    for ply, token in enumerate(moves):
        if ply == rules.move_limit(size):
            return "limit", ply, repeats
        if passes == 2:
            return "over", ply, repeats
        passes = passes + 1 if token == size * size else 0
        if token < size * size:
            row, column = divmod(token, size)
            row = size - 1 - row
            if board.get(row, column) is not None:
                return "occupied", ply, repeats
            if (row, column) == ko_point:
                return "ko", ply, repeats
            ko_point = board.play(row, column, "bw"[ply % 2])
            if board.get(row, column) is None and not rules.suicide:
                return "suicide", ply, repeats
            key = str(board.board), (ply + 1) % 2 if rules.ko == "situational" else None
            if key in seen and repeats < 0 and rules.ko != "simple":
                repeats = ply
        else:
            ko_point = None
        seen.add((str(board.board), (ply + 1) % 2 if rules.ko == "situational" else None))
    return "", -1, repeats


REASONS = {
    "limit": "the game is over after 20 moves",
    "over": "the game is over after two passes",
    "occupied": "is occupied",
    "ko": "retakes a ko at once",
    "suicide": "is suicide",
}


def random_games(size: int, rules: Rules, generator: random.Random) -> list[list[int]]:
    """Games legal but for superko and the limit, with up to two moves more somewhere in them."""
    simple = replace(rules, ko="simple", max_moves=50)
    record = play_games("uniform", range(60), seed=5, board_size=size, rules=simple)
    games = []
    for game in range(60):
        moves = record.moves[game, : int(record.lengths[game])].tolist()
        del moves[generator.randrange(len(moves)) + 1 :]
        for _ in range(generator.randrange(3)):
            moves.insert(generator.randrange(len(moves) + 1), generator.randrange(size**2 + 1))
        games.append(moves)
    return games


@pytest.mark.parametrize("suicide", [False, True])
@pytest.mark.parametrize("ko", ["simple", "positional", "situational"])
def test_random_games_are_judged_as_sgfmill_does(
    ko: str, suicide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referee, "_AT_ONCE", 64)  # so that there are several engines
    rules = Rules(ko=ko, suicide=suicide, max_moves=20)
    generator = random.Random(7)
    seen = set()
    for size in (2, 3, 4):
        games = random_games(size, rules, generator)
        for moves, found in zip(games, judge(games, size, rules), strict=True):
            kind, ply, repeats = expected_verdict(moves, size, rules)
            seen |= {kind, "repeats" if repeats >= 0 else ""}
            expected = f"move {ply + 1}: " if kind else "None"
            assert str(found.fault).startswith(expected)
            assert REASONS.get(kind, "") in str(found.fault)
            expected = f"move {repeats + 1}: " if repeats >= 0 else "None"
            assert str(found.warning).startswith(expected)
    # A ko is rare on such boards; above it is played by hand.
    wanted = {"limit", "over", "occupied", "" if suicide else "suicide"}
    assert seen >= wanted | ({"repeats"} if ko != "simple" else set())


def test_no_games_have_no_verdicts() -> None:
    assert judge([], 9, FULL) == []
