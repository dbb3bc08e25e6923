"""When to raise an alarm: thresholds, and one alert for one fault."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tessera.monitor.metrics import METRICS

Severity = Literal["design violation", "high", "medium"]

_RELEASE = 0.95  # of the limit: a fault is over when the metric has fallen this far
_IDLE_MB, _IDLE_RATIO = 128.0, 0.005  # idle memory below which its share is no fault; of the card
_COOL_DOWN = 500  # steps from an alert to the next one of the same metric, at least


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit that a metric must not exceed.

    Attributes:
        metric: its name, under which the alert is raised.
        limit: an alert is raised above it, not at it; of a floor below it.
        severity: how bad that is.
        advice: what to do about it.
        judged: the metric whose value is compared, where it is another one and was measured.
        matters: whether exceeding the limit means anything, given all that was measured.
        is_floor: whether it is the least that the metric may be, instead of the most.
    """

    metric: str
    limit: float
    severity: Severity
    advice: str
    judged: str | None = None
    matters: Callable[[Mapping[str, float]], bool] = lambda metrics: True
    is_floor: bool = False

    def is_exceeded(self, value: float) -> bool:
        """Whether a value is beyond the limit."""
        return value < self.limit if self.is_floor else value > self.limit

    def is_over(self, value: float) -> bool:
        """Whether a value ends a fault."""
        if self.is_floor:
            return value * _RELEASE >= self.limit
        return value <= _RELEASE * self.limit


def _much_lies_idle(metrics: Mapping[str, float]) -> bool:
    """Whether the memory that is reserved for nothing is worth a thought on this card."""
    reserved = metrics.get("vram_reserved_mb", math.inf)
    idle_mb = reserved * (1 - 1 / metrics["fragmentation_ratio"])
    card_mb = metrics.get("vram_used_mb", 0.0) / metrics.get("vram_used_ratio", 1.0)
    return idle_mb >= max(_IDLE_MB, _IDLE_RATIO * card_mb)


THRESHOLDS = (
    Threshold(
        "time_transfer",
        1.0,
        "design violation",
        "a copy this long does not belong into the loop; see monitor.transfers_by_owner",
        judged="time_transfer_max",
    ),
    Threshold(
        "unowned_copies",
        0.0,
        "design violation",
        "something in the loop copies between host and GPU",
    ),
    Threshold(
        "vram_used_ratio",
        0.85,
        "high",
        "lower data.batch_size or data.games_per_chunk before the memory runs out",
    ),
    Threshold(
        "fragmentation_ratio",
        1.5,
        "medium",
        "reserved memory lies idle; defragmentation gives it back",
        # The allocator takes 20 MiB at once, and chunks of games come and go: with a small model or
        # on a large card that alone is a high ratio.
        matters=_much_lies_idle,
    ),
    Threshold(
        "ssm_state_norm",
        100.0,
        "high",
        "the state diverges; lower model.lr or trainer.gradient_clip_val",
    ),
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One fault.

    Attributes:
        step: when it was found.
        metric: whose value is wrong.
        value: what it was; the longest copy's time for ``time_transfer``.
        threshold: the limit; None where the value is no finite number and the metric has none.
        severity: how bad it is.
        message: all of this in one line, and what to do.
    """

    step: int
    metric: str
    value: float
    threshold: float | None
    severity: Severity
    message: str


class AlertRule:
    """Turns measured values into alerts, one for each fault.

    A fault begins when a value exceeds its limit, or when any metric is no finite number, and is
    over when the value is at most 0.95 of the limit again (of a floor, at least the limit over
    0.95). While it lasts, and until the cool-down since its alert is over, there is no
    second one. What is NaN in one category at one step, for example all figures of the state, is
    one fault.

    Args:
        thresholds: the limits.
        cool_down: steps from an alert to the next one of the same metric, at least.

    Example:
        >>> rule = AlertRule()
        >>> [alert.severity for alert in rule.decide(10, {"ssm_state_norm": 100.5})]
        ['high']
        >>> rule.decide(20, {"ssm_state_norm": 250.0})
        []
    """

    def __init__(
        self, thresholds: Iterable[Threshold] = THRESHOLDS, cool_down: int = _COOL_DOWN
    ) -> None:
        self.thresholds = {threshold.metric: threshold for threshold in thresholds}
        self.cool_down = cool_down
        self._raised: set[str] = set()  # metrics whose fault lasts
        self._last_step: dict[str, int] = {}  # of a metric's newest alert

    def decide(self, step: int, metrics: Mapping[str, float]) -> list[Alert]:
        """The alerts that newly measured values give rise to.

        Args:
            step: of the run.
            metrics: by name, only what was measured since the last call.
        """
        alerts = [
            alert
            for threshold in self.thresholds.values()
            if (alert := self._judge(step, threshold, metrics)) is not None
        ]
        return alerts + self._not_finite(step, metrics)

    def _judge(self, step: int, threshold: Threshold, metrics: Mapping[str, float]) -> Alert | None:
        value = metrics.get(threshold.judged or threshold.metric, metrics.get(threshold.metric))
        if value is None or not math.isfinite(value):
            return None
        if not threshold.is_exceeded(value) or not threshold.matters(metrics):
            if threshold.is_over(value):
                self._raised.discard(threshold.metric)
            return None
        if not self._may_raise(threshold.metric, step):
            return None
        unit = METRICS[threshold.metric].unit if threshold.metric in METRICS else ""
        side = "below" if threshold.is_floor else "above"
        message = (
            f"{threshold.metric} {value:.4g}{unit and f' {unit}'} is {side} {threshold.limit:g} "
            f"({threshold.severity}): {threshold.advice}"
        )
        return Alert(step, threshold.metric, value, threshold.limit, threshold.severity, message)

    def _not_finite(self, step: int, metrics: Mapping[str, float]) -> list[Alert]:
        """One alert for each category of metrics in which a value is NaN or infinite."""
        found: dict[str, list[str]] = {}
        for name, value in metrics.items():
            if not math.isfinite(value):
                category = METRICS[name].category if name in METRICS else name
                found.setdefault(category, []).append(name)
        alerts = []
        for names in found.values():
            # Each is asked, so that all of them count as raised.
            if not all([self._may_raise(name, step) for name in names]):
                continue
            limits = [self.thresholds[name] for name in names if name in self.thresholds]
            severity: Severity = limits[0].severity if limits else "high"
            first = limits[0].metric if limits else names[0]
            limit = limits[0].limit if limits else None
            advice = f": {limits[0].advice}" if limits else ""
            are = "is no finite number" if len(names) == 1 else "are no finite numbers"
            message = f"{', '.join(names)} {are} ({severity}){advice}"
            alerts.append(Alert(step, first, metrics[first], limit, severity, message))
        for name, value in metrics.items():
            if math.isfinite(value) and name not in self.thresholds:
                self._raised.discard(name)
        return alerts

    def _may_raise(self, name: str, step: int) -> bool:
        """Whether this is a new fault; if so it is remembered."""
        if name in self._raised or step - self._last_step.get(name, -math.inf) < self.cool_down:
            return False
        self._raised.add(name)
        self._last_step[name] = step
        return True
