"""What a person sees while a run goes on: one bar, or in a log file a line now and then."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from tessera.training.module import TesseraModule

_REFRESH_S = 0.5  # on a terminal
_LINE_S = 10.0  # in a file
_BAR = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"


class RunProgress(ProgressBar):
    """Steps, loss, excess_nats, tokens/s and the time left, on the standard error stream.

    Reading the loss waits for the GPU, so it is done at each refresh and not at each step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Any = None
        self._last_shown = 0.0
        self._last_line: int | None = None

    def disable(self) -> None:
        """Show nothing: this is not the first process."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar where the run stands."""
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self._open("training", total, trainer.global_step)
        if self._bar is not None and pl_module.device.type == "cuda":
            self._bar.set_postfix_str("compiling kernels")  # the first step does

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        self._move(trainer.global_step, trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how the validation within a training went."""
        if self._bar is None or trainer.sanity_checking:
            return
        shown = pl_module.objective.shown_held_out if isinstance(pl_module, TesseraModule) else ()
        values = {name: trainer.callback_metrics.get(f"val/{name}") for name in shown}
        self.tell(
            f"validation at step {trainer.global_step}",
            {name: f"{value:.3f}" for name, value in values.items() if value is not None},
        )

    def tell(self, what: str, values: Mapping[str, str]) -> None:
        """Say in a line how something went that the run did beside its steps."""
        if self._bar is not None and values:
            text = "  ".join(f"{name} {value}" for name, value in values.items())
            tqdm.write(f"{what}: {text}", file=sys.stderr)
            self._last_line = None

    def say(self, text: str) -> None:
        """Say what takes long between two steps."""
        if self._bar is not None and self._is_due(now := time.monotonic()):
            self._show(text, now)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._move(trainer.global_step, trainer, at_once=True)
        self._close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar."""
        self._open("test", trainer.datamodule.test_batches)  # type: ignore[attr-defined]

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Move the bar."""
        self._move(self._bar.n + 1 if self._bar else 0)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal on a new line."""
        self._close()

    def _open(self, what: str, total: int | None, done: int = 0) -> None:
        self._close()
        if self._enabled:
            # A terminal that does not know its size says 0, and tqdm would show nothing.
            size = shutil.get_terminal_size((100, 24))
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=what,
                file=sys.stderr,
                disable=None,  # where it is not a terminal
                ncols=size.columns,
                nrows=size.lines,
                mininterval=_REFRESH_S,
                bar_format=_BAR,
            )
            # A disabled bar counts nothing, and its clock would be needed too.
            self._bar.n, self._start, self._done_before = done, time.monotonic(), done
            self._total, self._last_shown, self._last_line = total, time.monotonic(), None

    def _move(self, done: int, trainer: Trainer | None = None, at_once: bool = False) -> None:
        if self._bar is None:
            return
        self._bar.n = done
        now = time.monotonic()
        if not self._is_due(now) and not at_once:
            return
        text = _figures(trainer) if trainer is not None else ""
        self._show(text, now, has_line=trainer is not None)

    def _is_due(self, now: float) -> bool:
        return now - self._last_shown >= (_LINE_S if self._bar.disable else _REFRESH_S)

    def _show(self, text: str, now: float, has_line: bool = True) -> None:
        bar, self._last_shown = self._bar, now
        if bar.disable:
            # The end of a run is not told twice where its last step was due.
            if has_line and bar.n != self._last_line:
                self._last_line = bar.n
                print(self._line(bar.n, text, now), file=sys.stderr, flush=True)
        else:
            bar.set_postfix_str(text, refresh=False)
            bar.refresh()

    def _line(self, done: int, text: str, now: float) -> str:
        steps = f"step {done}" if self._total is None else f"step {done}/{self._total}"
        if self._total is not None and done > self._done_before:
            left_s = (now - self._start) / (done - self._done_before) * (self._total - done)
            text += f"  {tqdm.format_interval(left_s)} left"
        return f"{steps}  {text}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _figures(trainer: Trainer) -> str:
    """The latest figures that were measured."""
    metrics, module = trainer.callback_metrics, trainer.lightning_module
    parts, counted = [], "tokens"
    if isinstance(module, TesseraModule):
        figures, objective = module.figures("progress"), module.objective
        parts += [objective.stage] if objective.stage else []
        counted = objective.counted
        parts += [f"{name} {figures[name]:.3f}" for name in objective.shown if name in figures]
    if "train/tokens_per_s" in metrics:
        parts.append(f"{float(metrics['train/tokens_per_s']):,.0f} {counted}/s")
    return "  ".join(parts)
