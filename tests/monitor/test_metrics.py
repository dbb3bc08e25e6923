"""The metrics have the names of the specification, and each says exactly what it is."""

from __future__ import annotations

from tessera.monitor import METRICS, TOP_FIVE
from tessera.monitor.metrics import CATEGORIES

# The specification's table.
SPECIFIED = {
    "memory": {"vram_used_mb", "vram_reserved_mb"},
    "fragmentation": {"fragmentation_ratio", "num_segments"},
    "state": {"ssm_state_norm", "ssm_state_entropy", "ssm_state_delta_norm"},
    "timing": {"time_forward", "time_legal_mask", "time_play_move", "time_transfer"},
    "game": {"move_number", "stones_on_board", "legal_moves_count"},
}


def test_all_specified_metrics_are_there_in_their_category() -> None:
    for category, names in SPECIFIED.items():
        assert {METRICS[name].category for name in names} == {category}
    assert sum(map(len, SPECIFIED.values())) == 14
    assert {metric.category for metric in METRICS.values()} == set(CATEGORIES)


def test_the_top_five_are_metrics() -> None:
    assert set(TOP_FIVE) <= set(METRICS)
    assert TOP_FIVE[-2:] == ("move_number", "legal_moves_count")


def test_every_metric_says_what_it_is_when_it_is_read_and_what_is_healthy() -> None:
    for metric in METRICS.values():
        assert metric.formula and metric.cost and metric.healthy
        assert metric.sampled.endswith("_every")
