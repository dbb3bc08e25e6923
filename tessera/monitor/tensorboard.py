"""The monitor's pages in TensorBoard's tab "Custom Scalars"."""

from __future__ import annotations

from collections.abc import Iterable

from tessera.monitor.metrics import CATEGORIES, TOP_FIVE, Metric

# Metrics that are best seen in one chart, by the chart's name; every other has one of its own.
_TOGETHER = {
    "time_transfer": ("time_transfer", "time_transfer_max"),
    "vram_used_mb": ("vram_used_mb", "vram_reserved_mb", "vram_allocated_mb"),
    "engine": ("time_legal_mask", "time_play_move"),
    "board": ("move_number", "stones_on_board", "legal_moves_count"),
}
_TOP_CHARTS = ("time_transfer", "vram_used_mb", "fragmentation_ratio", "ssm_state_norm", "board")

Layout = dict[str, dict[str, list[object]]]


def layout(metrics: Iterable[Metric]) -> Layout:
    """What ``SummaryWriter.add_custom_scalars`` takes: a page "top five" and one per category."""
    metrics = list(metrics)
    assert set(TOP_FIVE) <= {name for chart in _TOP_CHARTS for name in _names(chart)}
    pages: Layout = {"monitor: top five": {chart: _chart(chart) for chart in _TOP_CHARTS}}
    chart_of = {name: chart for chart, names in _TOGETHER.items() for name in names}
    for category in CATEGORIES:
        charts = [chart_of.get(m.name, m.name) for m in metrics if m.category == category]
        pages[f"monitor: {category}"] = {chart: _chart(chart) for chart in dict.fromkeys(charts)}
    return pages


def _names(chart: str) -> tuple[str, ...]:
    return _TOGETHER.get(chart, (chart,))


def _chart(chart: str) -> list[object]:
    # TensorBoard reads them as regular expressions and would find longer names too.
    return ["Multiline", [f"^monitor/{name}$" for name in _names(chart)]]
