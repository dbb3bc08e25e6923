"""Where the monitor writes: the console, ``alerts.jsonl``, TensorBoard. None can end a run."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from tqdm import tqdm

from tessera.monitor.alerts import Alert
from tessera.monitor.metrics import METRICS
from tessera.monitor.tensorboard import layout

ALERTS_FILE = "alerts.jsonl"
NUM_ALERTS = "monitor/num_alerts"
_ALERT_TEXT = "monitor/alerts"

# Red, red, yellow; only on a terminal.
_COLOURS = {"design violation": "\033[1;31m", "high": "\033[31m", "medium": "\033[33m"}
_PLAIN = "\033[0m"


class Sinks:
    """Writes alerts, figures and lines to wherever there is something to write to.

    A sink that fails says so in one line and is left out from then on.

    Args:
        logger: the run's logger; None for none. Alerts go to its folder too, if it has one.
        place: what every line begins with, to tell several processes apart.

    Attributes:
        failed: what failed, by the sink's name.
    """

    def __init__(self, logger: Logger | None, place: str = "") -> None:
        self.failed: dict[str, str] = {}
        self._place = place
        self._logger = logger
        self._num_alerts = 0
        folder = getattr(logger, "log_dir", None)
        self._folder = Path(folder) if folder else None
        self._use("TensorBoard", self._open_page)

    def say(self, text: str) -> None:
        """A line, or several, on the standard error stream, above the progress bar."""
        self._print(lambda: text)

    def alert(self, alert: Alert) -> None:
        """Tell of an alert everywhere."""
        self._num_alerts += 1
        text = f"ALERT at step {alert.step}: {alert.message}"
        is_terminal = getattr(sys.stderr, "isatty", lambda: False)
        colour = _COLOURS[alert.severity]
        self._print(lambda: f"{colour}{text}{_PLAIN}" if is_terminal() else text)
        self._use(ALERTS_FILE, lambda: self._append(alert))
        self._use("TensorBoard", lambda: self._post(alert))

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Values by name, at the step at which they were sampled, under ``monitor/``."""
        logger = self._logger
        if logger is not None and values:
            tagged = {f"monitor/{name}": value for name, value in values.items()}
            self._use("TensorBoard", lambda: logger.log_metrics(tagged, step))

    def _print(self, text: Callable[[], str]) -> None:
        self._use("the console", lambda: tqdm.write(self._place + text(), file=sys.stderr))

    def _use(self, name: str, write: Callable[[], None]) -> None:
        if name in self.failed:
            return
        try:
            write()
        except Exception as error:
            self.failed[name] = str(error)
            # With a lost console this finds ``failed`` set and ends here.
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.say(f"monitor: {name} is left out from now on ({reason}).")

    def _post(self, alert: Alert) -> None:
        if self._logger is None:
            return
        if (writer := self._writer()) is not None:
            writer.add_text(_ALERT_TEXT, alert.message, alert.step)
        self._logger.log_metrics({NUM_ALERTS: self._num_alerts}, alert.step)

    def _append(self, alert: Alert) -> None:
        if self._folder is None:
            return
        record = asdict(alert)
        if not math.isfinite(alert.value):
            record["value"] = str(alert.value)  # JSON has no word for it
        line = json.dumps(record).encode() + b"\n"
        with open(self._folder / ALERTS_FILE, "ab", buffering=0) as file:
            end = file.tell()
            if file.write(line) < len(line):  # half a line is none that can be read
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open_page(self) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        if (writer := self._writer()) is not None:
            writer.add_custom_scalars(layout(METRICS.values()))

    def _writer(self) -> Any:
        """TensorBoard's writer; None with another logger."""
        writer = getattr(self._logger, "experiment", None)
        return writer if hasattr(writer, "add_custom_scalars") else None
