"""Giving the allocator's unused memory back from time to time."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tessera.setting_errors import SettingError, number, or_none, problems_of, whole

_MIB = 2**20
_ALLOWED = {
    "every_n_steps": whole(1),
    "only_above": or_none(number("at least 1", lambda ratio: ratio >= 1)),
}


@dataclass(frozen=True, slots=True)
class Defragmented:
    """What one defragmentation did.

    Attributes:
        ms: the host's time, with the wait until the GPU was idle.
        returned_mb: reserved memory that was given back to the driver, MiB.
    """

    ms: float
    returned_mb: float


def defragment(device: torch.device) -> Defragmented:
    """Give every segment without a tensor in it back to the driver; waits for the GPU.

    Tensors do not move. What lies free between them in one segment stays reserved.
    """
    began, before = time.perf_counter(), torch.cuda.memory_reserved(device)
    gc.collect(1)  # tensors in young reference cycles; looking at all objects takes far longer
    with torch.cuda.device(device):
        torch.cuda.empty_cache()
    returned = before - torch.cuda.memory_reserved(device)
    return Defragmented((time.perf_counter() - began) * 1e3, returned / _MIB)


class Defragmentation(Callback):
    """Defragments the GPU's memory every so many steps; does nothing on a CPU.

    ``monitor/defragmentation_ms`` and ``monitor/defragmentation_mb`` say in TensorBoard what it
    cost and what it gave back. After each validation memory is given back too.

    Args:
        enabled: false does nothing.
        every_n_steps: optimizer steps between two defragmentations, at least 1.
        only_above: leave the memory alone unless the reserved memory over the most that was
            allocated at once lately is above this ratio; null for every time.

    Attributes:
        history: what each defragmentation did, by its step.

    Raises:
        SettingError: with a problem for every argument that is out of range.
    """

    def __init__(
        self, enabled: bool = True, every_n_steps: int = 100, only_above: float | None = None
    ) -> None:
        self.enabled, self.every_n_steps, self.only_above = enabled, every_n_steps, only_above
        if problems := problems_of(self, _ALLOWED):
            raise SettingError(*problems)
        self.history: dict[int, Defragmented] = {}
        self._last_step = self._peak = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where the run stands."""
        self._last_step = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look how full the memory was, before the monitor starts a new peak."""
        is_due = self.enabled and (trainer.global_step + 1) % self.every_n_steps == 0
        if is_due and pl_module.device.type == "cuda":
            self._peak = torch.cuda.max_memory_allocated(pl_module.device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give back what a validation took, which would lie idle until the next one."""
        device = pl_module.device
        if self.enabled and device.type == "cuda" and not trainer.sanity_checking:
            defragment(device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Defragment, if it is time to."""
        step, device = trainer.global_step, pl_module.device
        is_new, self._last_step = step != self._last_step, step
        is_due = self.enabled and is_new and step % self.every_n_steps == 0
        if not is_due or device.type != "cuda":
            return
        if torch.cuda.memory_reserved(device) <= (self.only_above or 0) * self._peak:
            return
        done = self.history[step] = defragment(device)
        if trainer.logger is not None:
            values = {"ms": done.ms, "mb": done.returned_mb}
            tagged = {f"monitor/defragmentation_{unit}": value for unit, value in values.items()}
            trainer.logger.log_metrics(tagged, step)
