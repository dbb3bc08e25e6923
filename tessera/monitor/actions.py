"""What is done about an alert besides telling of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Trainer

from tessera.monitor.alerts import Alert
from tessera.transfers import owned

Action = Literal["warn", "checkpoint", "stop"]
_RANK = ("warn", "checkpoint", "stop")  # of two faults at one step the graver action is taken


class Actions:
    """Does what the settings say for an alert's severity.

    ``warn`` does nothing more; ``checkpoint`` writes ``alert-METRIC.ckpt``, once per metric and
    beside ``last.ckpt``, which it leaves alone; ``stop`` ends the run after the step, the way it
    ends at its last step.

    Args:
        by_severity: the action for each severity.
        folder: where checkpoints go; None where there is none to write.
        say: prints a line.
    """

    def __init__(
        self, by_severity: dict[str, Action], folder: Path | None, say: Callable[[str], None]
    ) -> None:
        self._by_severity, self._folder, self._say = by_severity, folder, say
        self._wanted = 0
        self._alert: Alert | None = None

    def note(self, alert: Alert) -> None:
        """Remember what an alert calls for."""
        rank = _RANK.index(self._by_severity[alert.severity])
        if rank > self._wanted:
            self._wanted, self._alert = rank, alert

    def take(self, trainer: Trainer) -> None:
        """Do it, between two steps. Several processes agree first, every ``log_every_n_steps``."""
        if all(action == "warn" for action in self._by_severity.values()):
            return
        wanted = self._agreed(trainer)
        if not wanted:
            return
        alert, self._wanted, self._alert = self._alert, 0, None
        metric = alert.metric if alert is not None else "other-process"
        if _RANK[wanted] == "stop":
            trainer.should_stop = True
            self._say(f"monitor: the run stops after step {trainer.global_step} ({metric}).")
        else:
            self._save(trainer, metric)

    def _agreed(self, trainer: Trainer) -> int:
        if trainer.world_size == 1:
            return self._wanted
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return 0
        with owned("monitor"):
            wanted = torch.tensor(self._wanted, device=trainer.strategy.root_device)
            return int(trainer.strategy.reduce(wanted, reduce_op="max"))

    def _save(self, trainer: Trainer, metric: str) -> None:
        if self._folder is None:
            self._say("monitor: no checkpoint was written: there is no folder for it.")
            return
        path = self._folder / f"alert-{metric}.ckpt"
        try:
            with owned("checkpoint"):
                trainer.save_checkpoint(path)
        except OSError:
            trainer.strategy.barrier()  # for the first process, which alone writes, others wait
            raise
        self._say(f"monitor: checkpoint {path}")
