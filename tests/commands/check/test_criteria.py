"""The five verdicts, from below, at and above each figure, on records made by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from tessera.commands.check.criteria import (
    MAX_STATE_NORM,
    NEEDS_GPU,
    Finding,
    judge_engine,
    judge_long_games,
    judge_monitor,
    judge_progress,
    judge_transfers,
)
from tessera.commands.check.trials import MEAN_OF, MonitorReading, PlayedBatch, TrainingRun
from tessera.monitor import TOP_FIVE as METRICS

LN_84 = math.log(84)
READING = MonitorReading(
    latest=dict.fromkeys(METRICS, 0.25),
    why_absent={},
    num_transfers=40,
    mean_ms=0.1,
    max_ms=0.2,
    unowned_copies=(),
    num_profiled_steps=3,
)
RUN = TrainingRun(
    name="9×9",
    device="cuda",
    vocab_size=84,
    max_steps=1000,
    losses=(LN_84, *[0.8 * LN_84] * MEAN_OF),
    floor_nats=2.1,
    excess_nats=1.8,
    monitor=READING,
)


def batches(sound: int, total: int = 10, **figures: float) -> list[PlayedBatch]:
    return [
        PlayedBatch(f"batch {nth + 1}", 100, 5000, () if nth < sound else ("it broke",), figures)
        for nth in range(total)
    ]


def monitored(device: str = "cuda", **changes: object) -> TrainingRun:
    """The run on that device with another reading of the monitor."""
    reading = dataclasses.replace(READING, **changes)
    return dataclasses.replace(RUN, device=device, monitor=reading)


def trained(*losses: float, **changes: object) -> Finding:
    return judge_progress(dataclasses.replace(RUN, losses=losses, **changes))


@pytest.mark.parametrize(
    ("sound", "verdict"), [(0, "failed"), (8, "failed"), (9, "passed"), (10, "passed")]
)
def test_the_engine_has_to_play_nine_of_ten_batches(sound: int, verdict: str) -> None:
    finding = judge_engine(batches(sound))
    assert finding.verdict == verdict and finding.wanted == "at least 9 of 10"
    assert finding.measured.startswith(f"{sound} of 10 batches of 100 games")
    assert ("it broke" in finding.measured) == (sound < 10)


@pytest.mark.parametrize(
    ("sound", "verdict"), [(0, "failed"), (7, "failed"), (8, "passed"), (10, "passed")]
)
def test_long_games_have_to_be_played_in_eight_of_ten_batches(sound: int, verdict: str) -> None:
    finding = judge_long_games(batches(sound), plies=300)
    assert finding.verdict == verdict and finding.wanted == "at least 8 of 10"
    assert "played 300 moves" in finding.measured


def test_no_batches_at_all_are_no_pass() -> None:
    assert judge_engine([]).verdict == "failed"
    assert judge_long_games([], plies=300).verdict == "failed"


@pytest.mark.parametrize(("share", "verdict"), [(0.91, "failed"), (0.9, "passed"), (0.5, "passed")])
def test_the_loss_has_to_fall_by_a_tenth(share: float, verdict: str) -> None:
    finding = trained(LN_84, *[share * LN_84] * MEAN_OF)
    assert finding.verdict == verdict
    assert finding.details["fall_ratio"] == pytest.approx(1 - share)
    assert f"{1 - share:.2%} below" in finding.measured


@pytest.mark.parametrize(
    ("first", "verdict"),
    [(-0.11, "failed"), (-0.09, "passed"), (0.09, "passed"), (0.11, "failed"), (4.0, "failed")],
)
def test_the_first_loss_has_to_be_that_of_knowing_nothing(first: float, verdict: str) -> None:
    assert trained(LN_84 + first, *[1.0] * MEAN_OF).verdict == verdict


def test_one_low_step_is_no_fall() -> None:
    assert trained(LN_84, *[LN_84] * (MEAN_OF - 1), 0.5).verdict == "failed"
    # Nor are fewer steps than the mean is taken over.
    assert trained(LN_84, *[0.5] * (MEAN_OF - 2)).verdict == "failed"


@pytest.mark.parametrize("losses", [(), (math.nan,) * 30, (LN_84, *[0.5] * 20, math.nan)])
def test_a_loss_that_is_no_number_is_no_fall(losses: tuple[float, ...]) -> None:
    assert trained(*losses).verdict == "failed"


def test_a_training_that_broke_is_a_failure_of_all_that_looks_at_it() -> None:
    run = dataclasses.replace(RUN, fault="ValueError: no", monitor=None)
    for judge in (judge_progress, judge_transfers, judge_monitor):
        finding = judge(run)
        assert finding.verdict == "failed" and "ValueError: no" in finding.measured


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("mean_ms", "max_ms", "verdict"),
    [
        (0.0, 0.0, "passed"),
        (0.499, 0.999, "passed"),
        (0.5, 0.6, "failed"),
        (0.1, 1.0, "failed"),
        (0.7, 3.0, "failed"),
        (math.nan, math.nan, "failed"),
    ],
)
def test_copies_have_to_be_short(mean_ms: float, max_ms: float, verdict: str, device: str) -> None:
    finding = judge_transfers(monitored(device, mean_ms=mean_ms, max_ms=max_ms))
    assert finding.verdict == verdict
    assert "40 copies" in finding.measured


def test_one_unowned_copy_is_one_too_many_and_is_named() -> None:
    finding = judge_transfers(monitored(unowned_copies=("DtoH of 4 bytes by aten::item",)))
    assert finding.verdict == "failed"
    assert "1 unowned (DtoH of 4 bytes by aten::item)" in finding.measured


def test_what_was_not_looked_at_is_no_pass() -> None:
    assert judge_transfers(monitored(num_profiled_steps=0)).verdict == "failed"
    assert judge_transfers(monitored(num_transfers=0, mean_ms=0.0, max_ms=0.0)).verdict == "failed"


def test_on_a_cpu_the_clock_stands_in_for_the_profiler_and_the_table_says_so() -> None:
    finding = judge_transfers(monitored("cpu", num_profiled_steps=0))
    assert finding.verdict == "passed"
    assert "host and device are one here; 40 copies timed by the clock" in finding.measured
    nothing = judge_transfers(monitored("cpu", num_transfers=0, mean_ms=0.0, max_ms=0.0))
    assert nothing.verdict == "not measurable here"


def test_the_norms_limit_is_the_designs() -> None:
    assert MAX_STATE_NORM == 100.0


def test_all_five_read_is_a_pass() -> None:
    finding = judge_monitor(monitored())
    assert finding.verdict == "passed" and finding.measured.startswith("5 of 5: ")


@pytest.mark.parametrize(("device", "metric"), list(itertools.product(("cpu", "cuda"), METRICS)))
def test_an_absent_metric_fails_unless_the_machine_cannot_have_it(device: str, metric: str) -> None:
    latest = {name: 1.0 for name in METRICS if name != metric}
    finding = judge_monitor(monitored(device, latest=latest, why_absent={metric: "no driver"}))
    assert finding.measured.startswith("4 of 5: ")
    if device == "cpu" and metric in NEEDS_GPU:
        assert finding.verdict == "passed"
        assert f"not measurable here: {metric}" in finding.measured
    else:
        assert finding.verdict == "failed"
        assert f"absent: {metric} (no driver)" in finding.measured


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_counts_as_absent(value: float) -> None:
    finding = judge_monitor(monitored(latest={**READING.latest, "ssm_state_norm": value}))
    assert finding.verdict == "failed" and "ssm_state_norm (never read)" in finding.measured
