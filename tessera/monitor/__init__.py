"""TesseraMonitor: the run watches itself; probes measure, rules judge, sinks tell."""

from tessera.monitor.alerts import THRESHOLDS, Alert, AlertRule, Threshold
from tessera.monitor.copies import Copy, CopyProbe
from tessera.monitor.defragmentation import Defragmentation, defragment
from tessera.monitor.game import GameProbe
from tessera.monitor.memory import MemoryProbe
from tessera.monitor.metrics import METRICS, TOP_FIVE, Metric
from tessera.monitor.monitor import TesseraMonitor
from tessera.monitor.schedule import Schedule
from tessera.monitor.sinks import Sinks
from tessera.monitor.state import StateProbe
from tessera.monitor.timing import TimingProbe
from tessera.monitor.transfer import TransferProbe, TransferStatistics
from tessera.stopwatch import Stopwatch

__all__ = [
    "METRICS",
    "THRESHOLDS",
    "TOP_FIVE",
    "Alert",
    "AlertRule",
    "Copy",
    "CopyProbe",
    "Defragmentation",
    "GameProbe",
    "MemoryProbe",
    "Metric",
    "Schedule",
    "Sinks",
    "StateProbe",
    "Stopwatch",
    "TesseraMonitor",
    "Threshold",
    "TimingProbe",
    "TransferProbe",
    "TransferStatistics",
    "defragment",
]
