"""Thousands of lines, most of them wrong: each is answered once, and what fails changes nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.play.conftest import Table

_WORDS = (
    *("b", "w", "black", "White", "B", "pass", "PASS", "resign", "A1", "C3", "E5", "F6", "Z9"),
    *("I1", "a0", "T19", "0", "1", "2", "3", "5", "9", "26", "-1", "1e300", "nan", "0.5", "10"),
    *("alive", "dead", "seki", "maxmoves", "interval", "avoid", "allow", "ownership", "true"),
    *("C3,D4", "9" * 400, "é", "×", "\u2028", "\x00", "\x1b[2J", "#", "=", "?", "%s", "{}"),
)
_IDS = ("", "", "", "0 ", "7 ", "007 ", "9" * 30 + " ", "-3 ", "1.5 ", "9" * 5000 + " ")
# A ko that is retaken at once, a suicide, boards of no size, moves after two passes.
_SCENE = (
    *("clear_board", "play b B3", "play w C3", "play b A2", "play w D2", "play b B1", "play w C1"),
    *("play b C2", "play w B2", "play b C2", "clear_board", "play b A2", "play b B1", "play w A1"),
    *("boardsize 0", "boardsize 26", "boardsize 5", "play b pass", "play w pass", "play b C3"),
)
_REASONS = ("is occupied", "repeats a position", "is suicide", "unacceptable size")
_ENDS = ("", "", "\r", "\t", " # remark", "\x07", "   ")


def lines(commands: list[str], seed: int, count: int) -> list[str]:
    """Lines of which about a third are moves that may be legal."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        kind = chance.random()
        if kind < 0.35:
            vertex = chance.choice("ABCDE") + chance.choice("12345")
            line = f"play {chance.choice('bw')} {chance.choice([vertex] * 9 + ['pass'])}"
        elif kind < 0.5:
            line = chance.choice(("undo", "genmove b", "genmove w", "play b pass", "play w pass"))
        elif kind < 0.9:
            words = chance.choices(_WORDS, k=chance.randrange(5))
            line = " ".join([chance.choice(commands), *words])
        elif kind < 0.97:
            line = " ".join(chance.choices(_WORDS, k=chance.randrange(6)))
        else:
            line = "".join(chr(chance.randrange(1, 0x300)) for _ in range(chance.randrange(80)))
        found.append(chance.choice(_IDS) + line.replace("\n", "") + chance.choice(_ENDS))
    found[count // 2] = "x" * 1_000_000
    found[count // 3] = "9" * 1_000_000
    found[count // 4 : count // 4 + len(_SCENE)] = _SCENE
    return found


def is_empty(line: str) -> bool:
    """Whether the protocol leaves a line without an answer."""
    kept = "".join(c for c in line if c in "\t" or not (ord(c) < 32 or ord(c) == 127))
    return not kept.split("#")[0].strip()


@pytest.mark.parametrize("kind", ["board", "moves"])
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_fuzzed_lines_are_answered_once_and_what_fails_changes_nothing(
    new_gtp: Callable[..., Table],
    kind: str,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Playouts take most of the time, of analyses too; every second kind has none there.
    table = new_gtp(kind, 5, temperature=1.0, num_playouts=2 if kind == "board" else None)
    counts = {"=": 0, "?": 0, "": 0}
    reasons = set()
    longest = 0
    for line in lines(table.gtp.commands, len(kind), count):
        before = table.look()
        answer = table.gtp.answer(line)
        if answer is None:
            assert is_empty(line)
            counts[""] += 1
            continue
        assert not is_empty(line)
        text = answer.text + answer.end
        counts[text[0]] += 1
        assert text.endswith("\n\n") and text.index("\n\n") == len(text) - 2
        assert "\r" not in text and "\x00" not in text
        assert answer.repeated.count("\n") <= 1
        if text[0] == "?":
            assert table.look() == before
            assert text.count("\n") == 2 and len(text) < 1_000_200
            reasons |= {reason for reason in _REASONS if reason in text}
        longest = max(longest, len(table.session.moves))
    assert min(counts["="], counts["?"]) > count // 4 and sum(counts.values()) == count
    assert longest > 10 and reasons == set(_REASONS)
    while table.gtp.answer("undo").text[0] == "=":  # type: ignore[union-attr]
        pass
    assert table.gtp.answer("quit").is_last  # type: ignore[union-attr]
