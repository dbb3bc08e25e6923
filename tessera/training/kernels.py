"""A run's kernels are compiled side by side, before its first games and before its first step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tessera.compiling import compile_together
from tessera.data import GameDataModule
from tessera.monitor import TesseraMonitor
from tessera.training.module import TesseraModule


class KernelsTogether(Callback):
    """Has Triton compile what a training is about to launch all at once, see ``compile_together``.

    Without a GPU it does nothing. With one, and the kernels compiled by an earlier run, it costs a
    step. It has to come before callbacks that launch something themselves.
    """

    def __init__(self) -> None:
        self._is_done = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The kernels that play games: the data's, and the monitor's."""
        device, data = trainer.strategy.root_device, trainer.datamodule  # type: ignore[attr-defined]
        runs: list[Callable[[], None]] = []
        if isinstance(data, GameDataModule):
            runs.append(data.launch_games)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, TesseraMonitor):
                runs.append(partial(callback.launch_games, device))
        compile_together(device, *runs)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The model's kernels, with the first batch, before anybody looks at the step."""
        if self._is_done or not isinstance(pl_module, TesseraModule):
            return
        self._is_done = True
        run = partial(pl_module.launch_training, batch)
        with trainer.precision_plugin.train_step_context():
            compile_together(pl_module.device, run)
