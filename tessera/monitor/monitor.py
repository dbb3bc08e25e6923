"""TesseraMonitor: a callback that measures the run while it trains, and raises alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tessera.go import Rules
from tessera.monitor.actions import Action, Actions
from tessera.monitor.alerts import Alert, AlertRule, Threshold
from tessera.monitor.copies import Copy
from tessera.monitor.game import GameProbe
from tessera.monitor.metrics import METRICS
from tessera.monitor.schedule import Schedule
from tessera.monitor.sinks import Sinks
from tessera.monitor.station import Sample, Station
from tessera.monitor.summary import Summary
from tessera.monitor.transfer import TransferStatistics

_MAX_KEPT = 1000  # unowned copies; a run that makes them at every step must not fill the memory
_MAX_NAMED = 3  # unowned copies in a message


class TesseraMonitor(Callback):
    """Measures memory, the recurrent state, times, copies and the game, and raises alerts.

    It disturbs nothing: figures from the GPU are read a sample later and never waited for (but for
    the few steps in which copies are recorded, and once at the end), and torch's random numbers are
    left alone, so the losses are bit for bit those of a run without it. What fails in it is left
    out from then on, with one line that says so; the run goes on.

    ``METRICS`` defines each metric. A step is an optimizer step.

    Args:
        enabled: false measures nothing.
        timing_every: steps between two measurements of the forward and of copies; 0 for none.
        game_every: steps between two plies of the monitor's own games; 0 for none.
        state_every: steps between two measurements of the recurrent state; 0 for none.
        memory_every: steps between two measurements of the GPU's memory; 0 for none.
        summary_every: steps between two tables of all metrics; 0 for none.
        copies_every: steps between two recordings of all copies, at least; 0 for none.
        copies_steps: steps of a recording.
        copies_time_ratio: share of the run's time that recordings may take, up to 1.
        on_design_violation: what a design violation leads to; warn, checkpoint or stop.
        on_high: what an alert of high severity leads to; warn, checkpoint or stop.
        on_medium: what an alert of medium severity leads to; warn, checkpoint or stop.
        checkpoint_dir: where the action checkpoint writes; null for nowhere.
        board_size: of the monitor's own games; null for no games.
        rules: of the monitor's own games.

    Attributes:
        alerts: every alert of this run.
        unowned_copies: copies that nobody owns, found in the recorded steps.

    Raises:
        SettingError: with a problem for every argument that is out of range.
    """

    _guest_rule: AlertRule | None  # for what others measure, from the start of a training on

    def __init__(
        self,
        enabled: bool = True,
        timing_every: int = 1,
        game_every: int = 50,
        state_every: int = 10,
        memory_every: int = 50,
        summary_every: int = 100,
        copies_every: int = 1000,
        copies_steps: int = 3,
        copies_time_ratio: float = 0.002,
        on_design_violation: Action = "warn",
        on_high: Action = "warn",
        on_medium: Action = "warn",
        checkpoint_dir: str | Path | None = None,
        board_size: int | None = None,
        rules: str | Rules = "full",
    ) -> None:
        self.enabled = enabled
        self.schedule = Schedule(
            timing_every=timing_every,
            game_every=game_every,
            state_every=state_every,
            memory_every=memory_every,
            summary_every=summary_every,
            copies_every=copies_every,
            copies_steps=copies_steps,
            copies_time_ratio=copies_time_ratio,
        )
        self.action_by_severity: dict[str, Action] = {
            "design violation": on_design_violation,
            "high": on_high,
            "medium": on_medium,
        }
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.board_size, self.rules = board_size, rules
        self.alerts: list[Alert] = []
        self.unowned_copies: list[Copy] = []
        self._latest: dict[str, float] = {}
        self._station: Station | None = None
        self._step = 0  # the one that is being made, counted from 1

    # What can be read, during a run and after it.

    @property
    def latest(self) -> dict[str, float]:
        """The newest value of every metric that can be measured."""
        absent = {} if self._station is None else self._station.why_absent
        return {name: value for name, value in self._latest.items() if name not in absent}

    @property
    def why_absent(self) -> dict[str, str]:
        """For every other metric, why there is no value."""
        why = dict.fromkeys(METRICS, "not sampled yet")
        if self._station is not None:
            why |= self._station.why_absent
        return {name: reason for name, reason in why.items() if name not in self.latest}

    @property
    def transfers(self) -> TransferStatistics:
        """The run's copies that ``tessera.transfers`` timed, checkpoints left out."""
        return TransferStatistics() if self._station is None else self._station.transfers.total

    @property
    def transfers_by_owner(self) -> dict[str, TransferStatistics]:
        """The same for each owner, checkpoints included."""
        return {} if self._station is None else self._station.transfers.by_owner

    @property
    def num_profiled_steps(self) -> int:
        """Steps in which all copies were recorded."""
        return 0 if self._station is None else self._station.windows.num_steps

    def launch_games(self, device: torch.device) -> None:
        """Launch the kernels that its own games will be played by; keep nothing of it."""
        if self.enabled and self.board_size is not None:
            GameProbe(self.board_size, self.rules, device).warm_up()

    def judge(
        self, step: int, values: Mapping[str, float], thresholds: Iterable[Threshold]
    ) -> None:
        """Raise alerts for figures that somebody else measured, by limits of their own.

        Nothing happens outside of a training, or if the monitor is off.

        Args:
            step: of the run.
            values: by name.
            thresholds: the limits, the same at every call.
        """
        if self._station is None:
            return
        if self._guest_rule is None:
            self._guest_rule = AlertRule(thresholds)
        for alert in self._guest_rule.decide(step, values):
            self._raise(alert)

    # What the trainer calls.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up the probes."""
        if not self.enabled:
            return
        # Every process watches its own GPU; the first one alone has the log.
        self._is_first = trainer.is_global_zero
        place = f"rank {trainer.global_rank}: " if trainer.world_size > 1 else ""
        self._sinks = Sinks(trainer.logger if self._is_first else None, place)
        self._rule, self._summary = AlertRule(), Summary()
        self._guest_rule = None
        self._figures: dict[str, Sample] = {}
        self._actions = Actions(self.action_by_severity, self.checkpoint_dir, self._sinks.say)
        self._step, self._summarised = 0, trainer.global_step
        self._station = Station(
            self.schedule, pl_module, self.board_size, self.rules, self._sinks.say
        )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to look at the step, if it is one to look at."""
        # The batches whose gradients one step accumulates belong to the same step.
        if self._station is not None and trainer.global_step + 1 != self._step:
            self._step = trainer.global_step + 1
            self._take(self._station.begin_step(self._step))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in what has been measured, judge it and act."""
        if self._station is None:
            return
        self._station.end_batch()
        if trainer.global_step < self._step:
            return
        self._take(self._station.end_step(self._step))
        if self._step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log()
        if self._is_first and self.schedule.is_due("summary", self._step):
            self._summarise()
        self._act(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in the last samples."""
        if self._station is not None:
            self._take(self._station.finish(self._step))
            self._log()
            self._station.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let go of everything: the trainer tears nothing down after this."""
        if self._station is not None:
            self._station.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of everything, however the run ended."""
        if self._station is not None:
            self._station.close()

    # Inside.

    def _take(self, samples: list[Sample]) -> None:
        """Keep samples and raise the alerts that they give rise to."""
        for sample in samples:
            self._latest |= sample.values
            self._summary.add(sample.values)
            self._figures |= dict.fromkeys(sample.values, sample)
            for alert in self._rule.decide(sample.step, sample.values):
                self._raise(alert)
            if "unowned_copies" in sample.values:
                assert self._station is not None
                room = _MAX_KEPT - len(self.unowned_copies)
                self.unowned_copies += self._station.unowned_copies[:room]

    def _raise(self, alert: Alert) -> None:
        if alert.metric == "unowned_copies":
            assert self._station is not None
            # The message names the copies, not only their number.
            copies = dict.fromkeys(str(copy) for copy in self._station.unowned_copies)
            shown = "; ".join(list(copies)[:_MAX_NAMED])
            alert = replace(alert, message=f"{alert.message}: {shown}")
        self.alerts.append(alert)
        self._sinks.alert(alert)
        self._actions.note(alert)

    def _log(self) -> None:
        """Write the newest value of every metric measured since the last time."""
        by_step: dict[int, dict[str, float]] = {}
        for name, sample in self._figures.items():
            by_step.setdefault(sample.step, {})[name] = sample.values[name]
        self._figures = {}
        for step, values in sorted(by_step.items()):
            self._sinks.figures(values, step)

    def _summarise(self) -> None:
        title = f"monitor, steps {self._summarised + 1} to {self._step}"
        self._summarised = self._step
        self._sinks.say(self._summary.table(title, self.why_absent))

    def _act(self, trainer: Trainer) -> None:
        """Do what alerts call for; if a checkpoint cannot be written, the run goes on."""
        try:
            self._actions.take(trainer)
        except OSError as error:
            self._sinks.say(f"monitor: no checkpoint was written ({error}).")
