"""Criterion 1: sound games pass, and each planted fault of the engine is found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tessera.commands.check import engine_trial
from tessera.commands.check.criteria import judge_engine
from tessera.commands.check.engine_trial import play_whole_games, record_faults
from tessera.commands.check.trials import PlayedBatch, Scale, Tell
from tessera.go import GameRecord, GPUGoEngine, IllegalMoveError, engine, play_games, resolve_rules
from tessera.go.position import no_suicide, place
from tests.commands.check.small import NOT_TRAINED

CPU = torch.device("cpu")


def told_nobody(done: float) -> None:
    """Nobody waits."""


def whole_games(
    num_batches: int = 3, size: int = 3, num_games: int = 6, tell: Tell = told_nobody
) -> list[PlayedBatch]:
    scale = Scale(NOT_TRAINED, size, num_batches, whole_games=num_games)
    return play_whole_games(CPU, scale, 0, tell)


def test_sound_games_have_no_fault_and_every_ply_is_counted() -> None:
    told: list[float] = []
    batches = whole_games(2, 5, tell=told.append)
    assert [batch.faults for batch in batches] == [(), ()]
    assert told == sorted(told) and len(told) > 10 and told[-1] == 1
    assert judge_engine(batches).verdict == "passed"
    assert ["uniform" in batches[0].name, "rules" in batches[1].name] == [True, True]
    record = play_games("rules", range(6, 12), seed=0, board_size=5)
    assert batches[1].plies == int(record.lengths.sum())


@pytest.fixture(scope="module")
def record() -> GameRecord:
    return play_games("rules", range(8), seed=1, board_size=5)


def replaced(record: GameRecord, name: str, at: tuple[int, ...], value: float) -> GameRecord:
    """The record with one value changed."""
    tensor: Tensor = getattr(record, name).clone()
    tensor[at] = value
    return dataclasses.replace(record, **{name: tensor})


def test_the_games_of_a_record_are_sound(record: GameRecord) -> None:
    assert record_faults(record) == []


def test_an_illegal_move_is_found(record: GameRecord) -> None:
    twice = replaced(record, "moves", (3, 4), int(record.moves[3, 0]))
    with pytest.raises(IllegalMoveError, match="game 3"):
        record_faults(twice)


def test_a_wrong_count_of_captures_is_found(record: GameRecord) -> None:
    assert record_faults(replaced(record, "captures", (2, 1), 3)) == [
        "game 2 captures other stones in the referee's replay",
        "game 2 has other stones on the board than its moves and captures leave",
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_result_that_is_not_finite_is_found(record: GameRecord, value: float) -> None:
    faults = record_faults(replaced(record, "results", (5,), value))
    assert "game 5 has a result that is not finite" in faults


def test_a_wrong_result_is_found(record: GameRecord) -> None:
    wrong = replaced(record, "results", (5,), float(record.results[5]) + 1)
    assert record_faults(wrong) == ["game 5 has another score in the referee's replay"]


def test_a_game_that_was_cut_short_is_found(record: GameRecord) -> None:
    short = int(record.lengths[6]) - 1
    cut = replaced(replaced(record, "lengths", (6,), short), "moves", (6, short), 26)
    faults = record_faults(cut)
    assert "game 6 does not end with two passes or at the move limit" in faults
    assert "game 6 is not over in the referee's replay at its recorded end" in faults


def test_a_game_that_goes_on_after_its_end_is_found(record: GameRecord) -> None:
    game = int(record.lengths.argmin())
    length = int(record.lengths[game])
    more = replaced(replaced(record, "lengths", (game,), length + 1), "moves", (game, length), 25)
    assert any("does not end with two passes" in fault for fault in record_faults(more))


def test_moves_beyond_a_games_end_are_found(record: GameRecord) -> None:
    game = int(record.lengths.argmin())
    more = replaced(record, "moves", (game, int(record.lengths[game])), 3)
    assert any("does not end with two passes" in fault for fault in record_faults(more))


def planted(change: Callable[[GameRecord], GameRecord], which: int = 1) -> Callable[..., Any]:
    """``play_games`` with one of the batches changed."""
    calls: list[int] = []

    def play(*args: Any, **kwargs: Any) -> GameRecord:
        calls.append(1)
        record = play_games(*args, **kwargs)
        return change(record) if len(calls) == which + 1 else record

    return play


def test_a_fault_is_its_batchs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine_trial, "play_games", planted(lambda r: replaced(r, "results", (0,), math.nan))
    )
    faults = [batch.faults for batch in whole_games()]
    assert [bool(lines) for lines in faults] == [False, True, False]


def test_sound_games_are_replayed_once_and_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed: list[int] = []

    def faults_of(record: GameRecord, *tell: Tell) -> list[str]:
        replayed.append(len(record.moves))
        return record_faults(record, *tell)

    monkeypatch.setattr(engine_trial, "record_faults", faults_of)
    assert [batch.faults for batch in whole_games()] == [(), (), ()] and replayed == [18]
    # A fault is looked for in each batch, and an illegal move of one hides none of another.
    twice = planted(lambda r: replaced(r, "moves", (3, 2), int(r.moves[3, 0])), which=2)
    monkeypatch.setattr(engine_trial, "play_games", twice)
    faults = [batch.faults for batch in whole_games(size=5)]
    assert replayed[1:] == [18, 6, 6, 6] and faults[:2] == [(), ()]
    assert faults[2][0].startswith("IllegalMoveError: ")


def test_an_error_is_a_fault_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(record: GameRecord) -> GameRecord:
        raise RuntimeError("the GPU has gone\nand more")

    monkeypatch.setattr(engine_trial, "play_games", planted(broken))
    batches = whole_games(10)
    assert [batch.faults for batch in batches if batch.faults] == [
        ("RuntimeError: the GPU has gone",)
    ]
    assert judge_engine(batches).verdict == "passed"


def without_a_rule(monkeypatch: pytest.MonkeyPatch, legal: Callable[[Any], Tensor]) -> list[str]:
    """The faults of games whose player and referee both take that for the legal points."""
    monkeypatch.setattr(GPUGoEngine, "_find_legal", legal)
    (batch,) = whole_games(1, num_games=20)
    return [fault.split("game ")[1].split(" ", 1)[1] for fault in batch.faults]


def test_an_engine_that_forgets_superko_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def legal(self: GPUGoEngine) -> Tensor:
        return no_suicide(self.position, "chains")

    (fault,) = without_a_rule(monkeypatch, legal)
    assert fault.startswith("repeats a position")


def test_an_engine_that_allows_suicide_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = without_a_rule(monkeypatch, lambda self: self.position.empty)
    assert any(fault.startswith("has a move that takes itself off") for fault in faults)


def test_an_engine_that_plays_on_stones_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = torch.full((3, 20), 0b111, dtype=torch.int32)
    faults = without_a_rule(monkeypatch, lambda self: everything[:, : self.batch_size])
    assert any(fault.startswith("has a move on a stone") for fault in faults)


def test_an_engine_that_leaves_captured_chains_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def place_as_in_phase2(position: Any, row: Tensor, bit: Tensor, capture: str) -> Any:
        return place(position, row, bit, "single")

    monkeypatch.setattr(engine, "place", place_as_in_phase2)
    (batch,) = whole_games(1, 5, 20)
    assert any("has stones without liberties at its end" in fault for fault in batch.faults)


def test_an_engine_that_plays_by_other_rules_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_other_rules(*args: Any, **kwargs: Any) -> GameRecord:
        record = play_games(*args, **kwargs, rules="phase2")
        return dataclasses.replace(record, rules=resolve_rules("full"))

    monkeypatch.setattr(engine_trial, "play_games", by_other_rules)
    finding = judge_engine(whole_games(size=5))
    assert finding.verdict == "failed" and finding.measured.startswith("0 of 3 batches")
