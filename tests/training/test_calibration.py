"""The calibration of moves: by hand, of forecasters that are right or wrong by a known amount."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tessera.data import GameBatch
from tessera.training import calibration as module
from tessera.training.calibration import (
    MOVE_BOUNDS,
    TOP_BOUNDS,
    Bin,
    Calibration,
    CalibrationMetrics,
)
from tests.runs import fit, python_path
from tests.training.test_metrics import WORDS, players_own_logits, whole_games

ROOT = Path(__file__).parents[2]

# Of a 2×2 board: four points, pass, PAD and EOS.
PASS, PAD, EOS, TOKENS = 4, 5, 6, 7


def batch_of(targets: torch.Tensor, legal: torch.Tensor | None) -> GameBatch:
    """Positions (B, L) of 2×2 games, of which nothing else is known."""
    nothing = torch.zeros(targets.shape)
    whole = nothing.int()
    return GameBatch(
        0,
        torch.full_like(targets, EOS),
        targets,
        nothing,
        nothing,
        whole,
        whole,
        nothing[:, 0],
        legal,
    )


def all_legal(targets: torch.Tensor) -> torch.Tensor:
    return torch.full((*targets.shape, 2), 0b11, dtype=torch.int32)


def measured(logits: torch.Tensor, batch: GameBatch, parts: int = 1) -> Calibration:
    metrics = CalibrationMetrics()
    size = -(-len(logits) // parts)
    for at in range(0, len(logits), size):
        metrics.update(logits[at : at + size], batch.rows(slice(at, at + size)))
    found = Calibration.of(metrics.compute())
    assert found is not None
    return found


def test_four_positions_by_hand() -> None:
    # Twice the same forecasts, of which the first and the second move come true; an end; PAD.
    targets = torch.tensor([[0, 1, EOS, PAD]])
    chances = torch.tensor([0.62, 0.23, 1e-9, 1e-9, 0.15, 0.0, 0.0])
    logits = chances.log().repeat(1, 4, 1)
    logits[0, :, 3] = 5.0  # A point that is not legal counts for nothing, whatever it is given.
    logits[0, :, 5:] = 3.0  # Nor do PAD and EOS.
    logits[0, 3] = torch.nan
    legal = torch.tensor([0b11, 0b01], dtype=torch.int32).repeat(1, 4, 1)
    found = measured(logits, batch_of(targets, legal))
    assert found.positions == 2
    bins = [(x.low, x.high, x.forecasts, x.given, x.played) for x in found.moves]
    assert bins == [
        (0.0, 0.0001, 2, pytest.approx(0, abs=1e-6), 0),
        (0.1, 0.2, 2, pytest.approx(0.30), 0),
        (0.2, 0.35, 2, pytest.approx(0.46), 1),
        (0.5, 0.7, 2, pytest.approx(1.24), 1),
    ]
    (top,) = found.tops
    assert (top.forecasts, top.played, top.low) == (2, 1, 9 / 15)
    assert (top.given, top.mean, top.frequency) == pytest.approx((1.24, 0.62, 0.5))
    gaps = [math.sqrt(2 / math.pi * 2 * p * (1 - p)) for p in (0.15, 0.23, 0.62)]
    assert found.metrics() == pytest.approx(
        {
            "move_ece": 0.5 * (0.30 + 0.54 + 0.24) / 2,
            "move_ece_noise": 0.5 * sum(gaps) / 2,
            "top_ece": 0.24 / 2,
            "top_ece_noise": gaps[2] / 2,
        },
        abs=1e-6,
    )


def test_bins_agree_with_counting_forecast_by_forecast() -> None:
    batch = whole_games("uniform")
    torch.manual_seed(0)
    logits = torch.randn(*batch.targets.shape, WORDS.size) * 3
    allowed = batch.legal_tokens()
    wanted: dict[str, dict[float, list[float]]] = {"moves": {}, "tops": {}}
    for row, position in (batch.targets <= WORDS.pass_token).nonzero().tolist():
        legal = allowed[row, position].nonzero().flatten()
        chances = logits[row, position, legal].softmax(0).tolist()
        forecasts = dict(zip(legal.tolist(), chances, strict=True))
        best, target = max(forecasts, key=forecasts.__getitem__), int(batch.targets[row, position])
        shares: dict[float, float] = {}
        for name, bounds, of in (
            ("moves", MOVE_BOUNDS, forecasts),
            ("tops", TOP_BOUNDS, {best: forecasts[best]}),
        ):
            for move, chance in of.items():
                low = max(bound for bound in bounds if bound <= chance)
                sums = wanted[name].setdefault(low, [0, 0.0, 0, 0.0])
                sums[0] += 1
                sums[1] += chance
                sums[2] += move == target
                if name == "moves":
                    shares[low] = shares.get(low, 0.0) + chance
                else:
                    sums[3] += chance * (1 - chance)
        for low, share in shares.items():
            wanted["moves"][low][3] += share * (1 - share)
    found = measured(logits, batch, parts=3)
    for name, bins in (("moves", found.moves), ("tops", found.tops)):
        assert len(bins) > 8
        rows = {x.low: [x.forecasts, x.given, x.played, x.variance] for x in bins}
        assert rows.keys() == wanted[name].keys()
        for low, sums in wanted[name].items():
            assert rows[low] == pytest.approx(sums, abs=1e-3), (name, low)
    moves = int((batch.targets <= WORDS.pass_token).sum())
    assert found.positions == moves == sum(x.played for x in found.moves)


def drawn(chances: torch.Tensor, seed: int) -> torch.Tensor:
    """Targets (1, L) with these probabilities (L, 5)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(chances, 1, generator=generator).view(1, -1)


def forecast(said: torch.Tensor, targets: torch.Tensor) -> Calibration:
    """What it is worth to have said these probabilities (L, 5) of the moves."""
    logits = torch.nn.functional.pad(said.log(), (0, 2))[None]
    return measured(logits, batch_of(targets, all_legal(targets)))


def test_one_who_means_what_it_says_has_no_more_than_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    errors = []
    for seed in range(40):
        true = (2 * torch.randn(400, 5, generator=generator)).softmax(-1)
        found = forecast(true, drawn(true, seed)).metrics()
        errors.append([found[name] for name in module.CALIBRATION_METRICS])
    move, move_noise, top, top_noise = torch.tensor(errors).mean(0).tolist()
    assert 0.01 < move_noise < 0.1 and 0.01 < top_noise < 0.1
    assert move == pytest.approx(move_noise, rel=0.1)
    assert top == pytest.approx(top_noise, rel=0.1)


@pytest.mark.parametrize("player", ["uniform", "rules"])
def test_the_player_itself_is_calibrated_on_its_own_games(player: str) -> None:
    batch = whole_games(player)
    found = measured(players_own_logits(player, batch), batch).metrics()
    # Of a uniform player one bin holds all moves of most positions, and one of them is played.
    assert found["move_ece"] < 1.8 * found["move_ece_noise"] + 1e-6 < 0.1
    assert found["top_ece"] < 1.8 * found["top_ece_noise"] < 0.1


@pytest.mark.parametrize(("said", "true"), [(0.8, 0.6), (0.8, 0.75), (0.55, 0.8)])
def test_confidence_that_is_wrong_by_a_known_amount_is_found(said: float, true: float) -> None:
    def of_two(chance: float) -> torch.Tensor:
        return torch.tensor([chance, 1 - chance, 0, 0, 0]).repeat(20_000, 1)

    found = forecast(of_two(said), drawn(of_two(true), 0)).metrics()
    assert found["move_ece"] == pytest.approx(abs(said - true), abs=0.01)
    assert found["top_ece"] == pytest.approx(abs(said - true), abs=0.01)
    assert found["move_ece_noise"] < 0.003


def test_a_probability_between_two_bins_is_of_the_higher_one() -> None:
    even = torch.tensor([[0.5, 0.5, 0, 0, 0]])
    found = forecast(even, torch.tensor([[1]]))
    assert [(x.low, x.forecasts, x.played) for x in found.moves] == [(0.0, 3, 0), (0.5, 2, 1)]
    assert [(x.low, x.high) for x in found.tops] == [(7 / 15, 8 / 15)]


def test_knowing_nothing_is_calibrated_and_being_sure_of_it_is_not() -> None:
    even = torch.full((5_000, 5), 0.2)
    targets = drawn(even, 0)
    assert forecast(even, targets).metrics()["move_ece"] < 0.01
    sure = torch.tensor([0.96, 0.01, 0.01, 0.01, 0.01]).repeat(5_000, 1)
    assert forecast(sure, targets).metrics()["move_ece"] == pytest.approx(0.76, abs=0.02)


def test_two_processes_have_the_sums_of_one() -> None:
    batch = whole_games("rules")
    logits = torch.randn(*batch.targets.shape, WORDS.size)
    parts, alone = [CalibrationMetrics(), CalibrationMetrics()], CalibrationMetrics()
    for metrics, rows in zip(parts, (slice(0, 5), slice(5, None)), strict=True):
        metrics.update(logits[rows], batch.rows(rows))
        alone.update(logits[rows], batch.rows(rows))
    others = iter([parts[1].moves, parts[1].tops])
    together = CalibrationMetrics(
        dist_sync_fn=lambda tensor, group: [tensor, next(others)],
        distributed_available_fn=lambda: True,
    )
    together.update(logits[:5], batch.rows(slice(0, 5)))
    assert torch.equal(together.compute(), alone.compute())
    assert not torch.equal(alone.compute(), parts[0].compute())


def test_settled_points_are_no_forecasts() -> None:
    batch = whole_games("rules", skip_settled=True, seed=1)
    assert batch.settled is not None
    columns = torch.arange(WORDS.board_size)
    settled = (batch.settled.unsqueeze(-1) >> columns & 1).bool().flatten(2)
    settled = torch.nn.functional.pad(settled, (0, 3))
    logits = players_own_logits("rules", batch, skip_settled=True)
    found = measured(logits, batch)
    assert settled.sum() > 500 and found == measured(logits.masked_fill(settled, 2.0), batch)
    counted = batch.targets <= WORDS.pass_token
    legal = batch.legal_tokens() & counted.unsqueeze(-1)
    assert sum(x.forecasts for x in found.moves) == int(legal.sum())
    assert found.metrics()["move_ece"] < 1.8 * found.metrics()["move_ece_noise"] < 0.2


def test_a_batch_in_pieces_is_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = whole_games("rules")
    logits = torch.randn(*batch.targets.shape, WORDS.size)
    whole = measured(logits, batch)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 3 * logits[0].numel())
    pieces = measured(logits, batch)
    assert [x.forecasts for x in pieces.moves] == [x.forecasts for x in whole.moves]
    assert pieces.metrics() == pytest.approx(whole.metrics(), rel=1e-9)


def test_what_was_not_measured_is_absent() -> None:
    metrics = CalibrationMetrics()
    targets = torch.tensor([[0, 1, EOS]])
    metrics.update(torch.zeros(1, 3, TOKENS), batch_of(targets, None))
    assert Calibration.of(metrics.compute()) is None
    ended = torch.tensor([[EOS, PAD, PAD]])
    metrics.update(torch.zeros(1, 3, TOKENS), batch_of(ended, all_legal(ended)))
    assert Calibration.of(CalibrationMetrics.compute(metrics)) is None


def test_intervals_are_those_of_wilson() -> None:
    # Of 10 forecasts 8 and none came true: figures of the textbook (Brown, Cai and DasGupta 2001).
    eight, none = (Bin(0.5, 0.7, 10, 6.0, played, 2.4) for played in (8, 0))
    assert eight.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert none.interval == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_the_noise_of_few_hits_is_that_of_a_coin_and_of_many_a_normal_one() -> None:
    # Of one forecast of p the gap is p or 1 - p, on average 2 p (1 - p).
    rare, many = Bin(0.0, 0.1, 1, 0.05, 0, 0.0475), Bin(0.5, 0.7, 1000, 600.0, 620, 240.0)
    found = Calibration((rare,), (many,)).metrics()
    assert found["move_ece_noise"] == pytest.approx(0.5 * 2 * 0.0475 / 1000)
    assert found["top_ece_noise"] == pytest.approx(math.sqrt(2 * 240 / math.pi) / 1000)
    assert found["move_ece"] == pytest.approx(0.5 * 0.05 / 1000)
    assert found["top_ece"] == pytest.approx(20 / 1000)


@pytest.mark.slow
def test_two_real_processes_measure_the_games_of_one(folder: Path) -> None:
    assert fit("--trainer.max_steps", 2) == 0
    found = []
    for processes, sequences in ((1, 8), (2, 4)):
        command = [sys.executable, "-m", "tessera", "validate", "--ckpt_path", "last"]
        command += ["--run_name", "small", "--json", "found.json", "--data.batch_size", sequences]
        command += ["--trainer.accelerator", "cpu", "--trainer.devices", processes]
        environment = {**os.environ, "PYTHONPATH": python_path(ROOT)}
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(Path("found.json").read_text()))
    one, two = ({name: x[f"val/{name}"] for name in module.CALIBRATION_METRICS} for x in found)
    assert two == pytest.approx(one, rel=1e-5)
    one, two = (x["val/calibration"] for x in found)
    for name in ("moves", "tops"):
        counts = [[(y["forecasts"], y["played"]) for y in x[name]] for x in (one, two)]
        assert counts[0] == counts[1]
