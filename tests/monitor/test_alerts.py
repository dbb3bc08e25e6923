"""One fault is one alert, at the thresholds of the specification."""

from __future__ import annotations

import math

import pytest

from tessera.monitor import METRICS, THRESHOLDS, AlertRule, Threshold

SPECIFIED = {
    "time_transfer": (1.0, "design violation"),
    "unowned_copies": (0.0, "design violation"),
    "vram_used_ratio": (0.85, "high"),
    "fragmentation_ratio": (1.5, "medium"),
    "ssm_state_norm": (100.0, "high"),
}


def test_the_thresholds_are_those_of_the_specification() -> None:
    assert {t.metric: (t.limit, t.severity) for t in THRESHOLDS} == SPECIFIED
    assert {t.metric for t in THRESHOLDS} <= set(METRICS)


@pytest.mark.parametrize("metric", SPECIFIED)
def test_an_alert_is_raised_above_the_threshold_not_at_or_below_it(metric: str) -> None:
    limit, severity = SPECIFIED[metric]
    rule = AlertRule()
    assert rule.decide(1, {metric: limit - 1e-6}) == []
    assert rule.decide(2, {metric: limit}) == []
    (alert,) = rule.decide(3, {metric: limit + 1e-6})
    assert (alert.step, alert.metric, alert.severity) == (3, metric, severity)
    assert (alert.value, alert.threshold) == (limit + 1e-6, limit)
    assert metric in alert.message and "\n" not in alert.message


def test_the_longest_copy_is_judged_where_it_is_known() -> None:
    (alert,) = AlertRule().decide(1, {"time_transfer": 0.2, "time_transfer_max": 1.5})
    assert (alert.metric, alert.value) == ("time_transfer", 1.5)
    assert AlertRule().decide(1, {"time_transfer": 0.2, "time_transfer_max": 0.9}) == []
    assert len(AlertRule().decide(1, {"time_transfer": 1.5})) == 1


def test_little_memory_is_never_fragmented() -> None:
    small = {"fragmentation_ratio": 4.0, "vram_reserved_mb": 60.0}
    assert AlertRule().decide(1, small) == []
    assert len(AlertRule().decide(1, {**small, "vram_reserved_mb": 256.0})) == 1
    assert len(AlertRule().decide(1, {"fragmentation_ratio": 4.0})) == 1
    # On a large card, 309 MiB that a chunk of games has left.
    large = {"fragmentation_ratio": 1.595, "vram_reserved_mb": 828.0}
    large |= {"vram_used_mb": 2600.0, "vram_used_ratio": 0.0181}
    assert AlertRule().decide(1, large) == []
    assert len(AlertRule().decide(1, {**large, "vram_used_ratio": 0.3})) == 1


def test_one_fault_is_one_alert_however_long_it_lasts() -> None:
    rule = AlertRule(cool_down=10)
    found = [rule.decide(step, {"ssm_state_norm": 101.0 + step}) for step in range(100)]
    assert [len(alerts) for alerts in found] == [1] + 99 * [0]


def test_a_value_that_trembles_at_its_limit_is_one_fault() -> None:
    rule = AlertRule(cool_down=0)
    values = [101.0, 99.0, 101.0, 99.0, 101.0]
    assert sum(len(rule.decide(step, {"ssm_state_norm": v})) for step, v in enumerate(values)) == 1
    assert rule.decide(10, {"ssm_state_norm": 94.0}) == []
    assert len(rule.decide(11, {"ssm_state_norm": 101.0})) == 1


def test_a_fault_that_comes_back_is_told_again_after_the_cool_down() -> None:
    rule = AlertRule(cool_down=100)
    assert len(rule.decide(0, {"fragmentation_ratio": 2.0})) == 1
    assert rule.decide(50, {"fragmentation_ratio": 1.0}) == []
    assert rule.decide(99, {"fragmentation_ratio": 2.0}) == []
    # It is still there when the cool-down is over.
    assert len(rule.decide(100, {"fragmentation_ratio": 2.0})) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_an_alert(value: float) -> None:
    rule = AlertRule()
    (alert,) = rule.decide(5, {"legal_moves_count": value})
    assert (alert.metric, alert.severity, alert.threshold) == ("legal_moves_count", "high", None)
    assert rule.decide(6, {"legal_moves_count": value}) == []
    (alert,) = AlertRule().decide(5, {"ssm_state_norm": value})
    assert (alert.metric, alert.threshold) == ("ssm_state_norm", 100.0)


def test_all_figures_of_a_state_that_is_nan_are_one_fault() -> None:
    rule = AlertRule()
    names = ("ssm_state_entropy", "ssm_state_norm", "ssm_state_delta_norm")
    (alert,) = rule.decide(5, dict.fromkeys(names, math.nan))
    assert alert.metric == "ssm_state_norm" and all(name in alert.message for name in names)
    assert rule.decide(6, dict.fromkeys(names, math.nan)) == []


def test_a_state_that_grows_until_it_is_nan_is_one_fault() -> None:
    rule = AlertRule()
    assert len(rule.decide(1, {"ssm_state_norm": 150.0, "ssm_state_entropy": 3.0})) == 1
    assert rule.decide(2, {"ssm_state_norm": math.nan, "ssm_state_entropy": math.nan}) == []


def test_different_faults_at_one_step_are_different_alerts() -> None:
    alerts = AlertRule().decide(1, {"fragmentation_ratio": 2.0, "vram_used_ratio": 0.9})
    assert {alert.metric for alert in alerts} == {"fragmentation_ratio", "vram_used_ratio"}


def test_a_floor_is_the_least_that_a_metric_may_be() -> None:
    rule = AlertRule([Threshold("entropy", 0.1, "high", "look", is_floor=True)], cool_down=10)
    assert not rule.decide(1, {"entropy": 0.1}) and not rule.decide(2, {"entropy": 3.0})
    (alert,) = rule.decide(3, {"entropy": 0.09})
    assert alert.message == "entropy 0.09 is below 0.1 (high): look"
    assert not rule.decide(20, {"entropy": 0.01})
    assert not rule.decide(30, {"entropy": 0.104})  # it trembles, and lasts
    assert not rule.decide(40, {"entropy": 0.05})
    assert not rule.decide(50, {"entropy": 0.106})
    assert rule.decide(60, {"entropy": 0.05})
