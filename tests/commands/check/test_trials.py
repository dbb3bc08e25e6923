"""What ``tessera check`` plays and trains: sound parts pass, and each planted fault is found."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tessera.commands.check import engine_trial
from tessera.commands.check.criteria import (
    judge_engine,
    judge_long_games,
    judge_monitor,
    judge_progress,
    judge_transfers,
)
from tessera.commands.check.engine_trial import play_whole_games, record_faults
from tessera.commands.check.long_games_trial import new_model, play_long_games
from tessera.commands.check.training_trial import TrainingSettings, train
from tessera.commands.check.trials import PlayedBatch, Scale, TrainingRun
from tessera.go import GameRecord, GPUGoEngine, IllegalMoveError, engine, play_games, resolve_rules
from tessera.go.position import Removed, no_suicide, place
from tessera.go.randomness import MOVE, random_words
from tessera.model import GameModel, MambaModel, ModelState
from tessera.play.model_player import draw_choice
from tessera.signals import Stopped, StopSignals
from tessera.training import TesseraModule

CPU = torch.device("cpu")
SMALL = TrainingSettings(
    board_size=3,
    context=None,
    batch_size=16,
    games_per_chunk=64,
    d_model=8,
    lr=2e-2,
    warmup_steps=5,
    max_steps=150,
    min_steps=40,
)


def told_nobody(done: float) -> None:
    """Nobody waits."""


def trained(settings: TrainingSettings = SMALL, seed: int = 0) -> TrainingRun:
    return train(settings, CPU, seed, told_nobody)


def whole_games(num_batches: int = 3, size: int = 3) -> list[PlayedBatch]:
    scale = Scale(SMALL, size, num_batches, whole_games=6)
    return play_whole_games(CPU, scale, 0, told_nobody)


def long_games(
    model: MambaModel | None = None, size: int = 5, plies: int = 12, num_batches: int = 2
) -> list[PlayedBatch]:
    model = new_model(size, 8, CPU, 0) if model is None else model
    scale = Scale(SMALL, size, num_batches, long_games=4, plies=plies)
    return play_long_games(model, scale, 0, told_nobody)


# Criterion 1.


def test_sound_games_have_no_fault_and_every_ply_is_counted() -> None:
    told: list[float] = []
    batches = play_whole_games(CPU, Scale(SMALL, 5, 2, whole_games=6), 0, told.append)
    assert [batch.faults for batch in batches] == [(), ()] and told == [0.5, 1]
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
    batches = play_whole_games(CPU, Scale(SMALL, 3, 1, whole_games=20), 0, told_nobody)
    return [fault.split("game ")[1].split(" ", 1)[1] for fault in batches[0].faults]


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
    (batch,) = play_whole_games(CPU, Scale(SMALL, 5, 1, whole_games=20), 0, told_nobody)
    assert any("has stones without liberties at its end" in fault for fault in batch.faults)


def test_an_engine_that_plays_by_other_rules_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_other_rules(*args: Any, **kwargs: Any) -> GameRecord:
        record = play_games(*args, **kwargs, rules="phase2")
        return dataclasses.replace(record, rules=resolve_rules("full"))

    monkeypatch.setattr(engine_trial, "play_games", by_other_rules)
    finding = judge_engine(whole_games(size=5))
    assert finding.verdict == "failed" and finding.measured.startswith("0 of 3 batches")


# Criterion 5.


def test_a_model_plays_long_games() -> None:
    batches = long_games()
    assert [batch.faults for batch in batches] == [(), ()]
    assert [batch.plies for batch in batches] == [4 * 12] * 2
    for batch in batches:
        assert batch.figures["longest_game"] == 12 and batch.figures["num_unbroken_games"] == 4
        assert 0 < batch.figures["max_ssm_state_norm"] < 100
    assert judge_long_games(batches, 12).verdict == "passed"


def test_the_same_seed_plays_the_same_games_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, second = long_games(), long_games()
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert first[0].figures != first[1].figures  # other games


def test_a_game_with_nothing_left_to_play_makes_room_for_a_new_one() -> None:
    # On 2×2 superko soon leaves nothing, long before 40 moves.
    (batch,) = long_games(size=2, plies=40, num_batches=1)
    assert batch.figures["num_restarts"] > 4 and batch.figures["num_unbroken_games"] == 0
    # They ended well, but no game has shown that it gets that far.
    (fault,) = batch.faults
    assert fault.startswith("no game got beyond move ")


def test_a_new_game_is_another_one_and_begins_with_an_empty_state() -> None:
    class Recording(MambaModel):
        """Keeps what it reads and answers."""

        def step_in_place(self, tokens: Tensor, state: ModelState, is_new: Tensor) -> Tensor:
            logits = super().step_in_place(tokens, state, is_new)
            seen.append((tokens.clone(), logits))
            return logits

    seen: list[tuple[Tensor, Tensor]] = []
    model = Recording(7, 8).eval()
    with torch.no_grad():
        model.head.weight *= 1000  # so that the state can be read off the logits
    (batch,) = long_games(model, size=2, plies=40, num_batches=1)
    tokens, logits = (torch.stack(column, 1) for column in zip(*seen, strict=True))
    begins = tokens == 6
    assert int(begins.sum()) - 4 <= batch.figures["num_restarts"] <= int(begins.sum())
    first = logits[0, 0].expand_as(logits[begins])
    assert torch.allclose(logits[begins], first, atol=1e-5)
    games = ["".join(map(str, row)).split("6")[1:-1] for row in tokens.tolist()]
    for played in games:
        assert len(set(played)) > len(played) / 2 > 1


def test_a_nan_in_the_model_fails() -> None:
    model = new_model(5, 8, CPU, 0)
    with torch.no_grad():
        model.head.bias[3] = math.nan
    batches = long_games(model)
    assert batches[0].faults == ("a logit or a state is not finite (4 games)",)
    finding = judge_long_games(batches, 12)
    assert finding.verdict == "failed" and "not finite" in finding.measured


def test_a_nan_that_comes_late_fails() -> None:
    model = new_model(5, 8, CPU, 0)
    calls: list[int] = []

    def spoil(module: nn.Module, args: Any, output: Any) -> Any:
        calls.append(1)
        return output + math.nan if len(calls) == 12 else output

    model.head.register_forward_hook(spoil)
    assert [len(batch.faults) for batch in long_games(model)] == [1, 0]


@pytest.mark.parametrize(("scale", "is_sound"), [(1.0, True), (1e4, False)])
def test_a_state_that_grows_too_large_fails(scale: float, is_sound: bool) -> None:
    model = new_model(5, 8, CPU, 0)
    with torch.no_grad():
        model.embedding.weight *= scale
    for batch in long_games(model):
        assert (batch.figures["max_ssm_state_norm"] <= 100) == is_sound
        assert any("norm is above 100" in fault for fault in batch.faults) != is_sound


def test_an_engine_that_miscounts_its_captures_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Removed.counts
    monkeypatch.setattr(Removed, "counts", lambda self, games: 0 * count(self, games))
    faults = [fault for batch in long_games(plies=60) for fault in batch.faults]
    assert any("stones are not plies less passes and captures" in fault for fault in faults)


def test_an_engine_that_ends_games_too_early_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPUGoEngine, "is_game_over", lambda self: self.move_number >= 5)
    faults = [batch.faults[0] for batch in long_games()]
    assert faults == ["the game ended although moves were legal (4 games)"] * 2


def test_an_engine_that_raises_is_a_fault_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: GPUGoEngine) -> Tensor:
        raise RuntimeError("no mask")

    monkeypatch.setattr(GPUGoEngine, "get_legal_mask", broken)
    batches = long_games()
    assert [batch.faults for batch in batches] == [("RuntimeError: no mask",)] * 2
    assert [batch.plies for batch in batches] == [0, 0] and not batches[0].figures
    assert judge_long_games(batches, 12).verdict == "failed"


def test_moves_are_drawn_from_the_models_distribution_over_the_legal_ones() -> None:
    logits = torch.tensor([0.0, 1.0, 5.0, -1.0]).expand(40_000, -1)
    legal = torch.tensor([True, True, False, True]).expand(40_000, -1)
    words = random_words(0, torch.arange(40_000), 0, MOVE)
    seen = draw_choice(logits, legal, words).moves.bincount(minlength=4) / 40_000
    expected = torch.tensor([0.0, 1.0, -math.inf, -1.0]).softmax(0)
    assert torch.allclose(seen, expected, atol=0.01) and seen[2] == 0


@pytest.mark.parametrize("word", [0, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf, 1e30])
def test_no_draw_is_illegal(word: int, value: float) -> None:
    for column in range(5):
        legal = torch.zeros(1, 5, dtype=torch.bool)
        legal[0, column] = True
        scores = torch.full((1, 5), value)
        assert draw_choice(scores, legal, torch.tensor([word])).moves == column
    legal = torch.tensor([[False, True, True, True, False]])
    assert draw_choice(torch.randn(1, 5), legal, torch.tensor([word])).moves in (1, 2, 3)


# Criteria 2, 3 and 4.


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that is the folder of temporary files as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_model_that_learns_passes_early_and_leaves_nothing_behind(traces: Path) -> None:
    told: list[float] = []
    run = train(SMALL, CPU, 0, told.append)
    assert run.fault == "" and SMALL.min_steps <= len(run.losses) < SMALL.max_steps
    finding = judge_progress(run)
    assert finding.verdict == "passed", finding.measured
    assert run.losses[0] == pytest.approx(math.log(12), abs=0.1)
    assert run.last_loss == pytest.approx(run.floor_nats + run.excess_nats, abs=0.3)
    assert judge_transfers(run).verdict == "passed"
    monitor = judge_monitor(run)
    assert monitor.verdict == "passed", monitor.measured
    assert told == sorted(told) and told[0] >= 0 and told[-1] == 1.0
    assert list(traces.iterdir()) == []


def test_a_training_with_the_same_seed_is_the_same_again() -> None:
    settings = dataclasses.replace(SMALL, max_steps=5)
    first, second = (trained(settings, 3) for _ in range(2))
    assert first.losses == second.losses and len(first.losses) == 5
    other = trained(settings, 4)
    assert other.losses[0] != first.losses[0]  # other weights
    assert other.floor_nats != first.floor_nats  # other games


def test_a_model_that_does_not_learn_fails_after_all_its_steps() -> None:
    run = trained(dataclasses.replace(SMALL, lr=1e-9, max_steps=30))
    assert len(run.losses) == 30
    finding = judge_progress(run)
    assert finding.verdict == "failed" and abs(finding.details["fall_ratio"]) < 0.05


def test_a_bad_start_fails_although_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    init = GameModel.__init__

    def badly(self: GameModel, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        nn.init.normal_(self.head.bias, std=3.0)

    monkeypatch.setattr(GameModel, "__init__", badly)
    finding = judge_progress(trained())
    assert finding.details["fall_ratio"] > 0.1 and finding.verdict == "failed"


def test_a_loss_that_is_no_number_ends_the_training_and_fails() -> None:
    run = trained(dataclasses.replace(SMALL, lr=1e30, warmup_steps=0))
    assert len(run.losses) == 10 and not math.isfinite(run.losses[-1])
    assert judge_progress(run).verdict == "failed"


def test_an_error_in_a_step_is_what_was_found(
    traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TesseraModule.training_step

    def broken(self: TesseraModule, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 12:
            raise RuntimeError("planted")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TesseraModule, "training_step", broken)
    run = trained()
    assert run.fault == "RuntimeError: planted" and run.monitor is None
    for judge in (judge_progress, judge_transfers, judge_monitor):
        assert judge(run).verdict == "failed" and "planted" in judge(run).measured
    assert list(traces.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_training_is_not_taken_for_a_finding(
    traces: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    step = TesseraModule.training_step

    def interrupted(self: TesseraModule, batch: Any, batch_idx: int) -> Tensor:
        os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TesseraModule, "training_step", interrupted)
    with pytest.raises(Stopped) as ended, StopSignals():
        trained()
    assert ended.value.number == number
    assert list(traces.iterdir()) == []
