"""The probes of one run: which there are, when each is sampled, and what happens if one fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule

from tessera.go import Rules
from tessera.model import GameModel
from tessera.monitor.copies import Copy
from tessera.monitor.game import GameProbe
from tessera.monitor.memory import MemoryProbe
from tessera.monitor.schedule import Schedule
from tessera.monitor.state import StateProbe
from tessera.monitor.timing import TimingProbe
from tessera.monitor.transfer import TransferProbe
from tessera.monitor.windows import CopyWindows
from tessera.transfers import begin_to_host, to_host

_DEFERRED = ("timing", "state", "game")  # bracket a step, and are read once the GPU has got there


@dataclass(frozen=True, slots=True)
class Sample:
    """Values by name, and the step that they belong to."""

    step: int
    values: dict[str, float]


class Station:
    """All probes of one run. One that fails is left out from then on, and a line says so.

    A deferred probe has ``begin`` before a sampled step, ``end`` after it and ``read`` later; the
    others are read when they are due. All have ``metrics``, ``why_absent`` and ``close``.

    Args:
        schedule: when each is sampled.
        module: what is trained, on its device; the ``GameModel`` in it is looked at.
        board_size: of the monitor's own games; None for no games.
        rules: of these games.
        say: prints a line.

    Attributes:
        why_absent: for every metric that cannot be measured, why.
        transfers: the run's timed copies.
        windows: the recordings of all copies.
        unowned_copies: copies that nobody owns, of the last recording.
    """

    def __init__(
        self,
        schedule: Schedule,
        module: LightningModule,
        board_size: int | None,
        rules: str | Rules,
        say: Callable[[str], None],
    ) -> None:
        self.why_absent: dict[str, str] = {}
        self.unowned_copies: list[Copy] = []
        self._schedule, self._say = schedule, say
        self._parts: dict[str, Any] = {}
        self._sampled_at: dict[str, int] = {}
        self._is_told = False  # what the memory probe reads instead of what it should
        self._device = device = module.device
        # The first copies of a process set the driver up, which is no part of a step.
        to_host(torch.zeros(1, device=device), "monitor")
        begin_to_host(torch.zeros(1, device=device), "monitor")
        # Listening is what makes copies known to the profiler, so it is always done.
        self.transfers = self._parts["transfer"] = TransferProbe()
        self._open("memory", MemoryProbe, device)
        self.windows = self._parts["copies"] = CopyWindows(
            device, schedule.copies_every, schedule.copies_steps, schedule.copies_time_ratio
        )
        self.why_absent |= self.windows.why_absent
        model = next((part for part in module.modules() if isinstance(part, GameModel)), None)
        for kind, probe, arguments in (
            ("timing", TimingProbe, (model, device)),
            ("state", StateProbe, (model,)),
        ):
            if model is None:
                self._explain(probe.metrics, "the module holds no GameModel")
            else:
                self._open(kind, probe, *arguments)
        if board_size is None:
            self._explain(GameProbe.metrics, "no board_size was given")
        else:
            self._open("game", GameProbe, board_size, rules, device)
            self._use("game", "warm_up")

    def begin_step(self, step: int) -> list[Sample]:
        """Before a step: arm what samples it. Returns what an ended recording of copies found."""
        found = self._copies(step - 1, self._use("copies", "begin_step", step))
        for kind in _DEFERRED:
            # A recorded step is slower than others and is not timed.
            is_timed = kind != "timing" or not self.windows.is_recording
            if is_timed and self._schedule.is_due(kind, step):
                self._use(kind, "begin")
                self._sampled_at[kind] = step
        return found

    def end_batch(self) -> None:
        """After a batch: with accumulated gradients the first batch of a step is the sample."""
        self._use("timing", "end")
        self._use("state", "end")

    def end_step(self, step: int) -> list[Sample]:
        """After a step: what was measured by now; never waits for the GPU."""
        found = self._arrived()
        if self._schedule.is_due("game", step):
            self._use("game", "end")
            self._sampled_at["game"] = step
        if step % max(1, self._schedule.timing_every) == 0:
            values = self._use("transfer", "read")
            if values and self._schedule.timing_every:
                found.append(Sample(step, values))
        if self._schedule.is_due("memory", step):
            values = self._use("memory", "read")
            problem = getattr(self._parts.get("memory"), "problem", None)
            if problem is not None and not self._is_told:
                self._is_told = True
                self._say(f"monitor: {problem}.")
            if values:
                found.append(Sample(step, values))
        return found

    def finish(self, step: int) -> list[Sample]:
        """After the last step: everything that is still on its way. Waits for the GPU, once."""
        found = self._copies(step, self._use("copies", "end", step + 1))
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return found + self._arrived()

    def close(self) -> None:
        """Take everything off the model and let go of the driver."""
        for kind in list(self._parts):
            self._use(kind, "close")

    def _arrived(self) -> list[Sample]:
        """Deferred samples that the GPU has finished since the last call."""
        return [
            Sample(self._sampled_at[kind], values)
            for kind in _DEFERRED
            if (values := self._use(kind, "read"))
        ]

    def _copies(self, step: int, copies: list[Copy] | None) -> list[Sample]:
        """The figure that a recording gives; its unowned copies are kept for the message."""
        if copies is None:
            return []
        self.unowned_copies = [copy for copy in copies if copy.owner is None]
        return [Sample(step, {"unowned_copies": float(len(self.unowned_copies))})]

    def _open(self, kind: str, probe: Callable[..., Any], *arguments: Any) -> None:
        """Make a probe, unless none is wanted or it cannot be made."""
        metrics: tuple[str, ...] = probe.metrics  # type: ignore[attr-defined]
        if not self._schedule.every(kind):
            self._explain(metrics, f"monitor.{kind}_every is 0")
            return
        try:
            self._parts[kind] = probe(*arguments)
        except Exception as error:
            self._drop(kind, metrics, error)
            return
        self.why_absent |= self._parts[kind].why_absent

    def _use(self, kind: str, method: str, *arguments: Any) -> Any:
        """What a probe's method returns; None if there is no such probe, or not any more."""
        part = self._parts.get(kind)
        if part is None:
            return None
        try:
            return getattr(part, method)(*arguments)
        except Exception as error:
            del self._parts[kind]
            self._drop(kind, part.metrics, error)
            return None

    def _drop(self, kind: str, metrics: tuple[str, ...], error: Exception) -> None:
        """Whatever went wrong in a probe, the run goes on; a line says what is missing now."""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._explain(metrics, f"the {kind} probe failed: {reason}")
        self._say(f"monitor: {', '.join(metrics)} cannot be measured any more ({reason}).")

    def _explain(self, metrics: tuple[str, ...], why: str) -> None:
        self.why_absent |= dict.fromkeys(metrics, why)
