"""One run: trained as ``tessera fit`` trains, measured on games that it never saw, written down."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint

from tessera.commands.compare.games_of_run import games_of
from tessera.commands.compare.held_out import HeldOut, validation_points
from tessera.commands.compare.pace import Pace
from tessera.commands.compare.run_checkpoint import RunCheckpoint
from tessera.training.checkpoint_file import CheckpointError
from tessera.training.checkpointing import LAST, AtomicCheckpointIO
from tessera.training.interruption import keep_signals
from tessera.training.kernels import KernelsTogether
from tessera.training.module import TesseraModule
from tessera.training.run_lock import RunLock
from tessera.training.trainer import StreamTrainer
from tessera.training.unprofiled import Unprofiled

RESULT, SETTINGS = "result.json", "settings.yaml"
_NUM_POINTS = 8  # of a run's curve
_LOG_EVERY = 50  # steps; how often losses are looked at, which waits for the GPU
_BRIEF = 50  # steps, as many of whose first ones a measurement leaves out
_MIB = 2**20
_compiled: set[str] = set()  # rows whose kernels this process has
_OF_SPEED = ("seconds", "tokens_per_s")

Report = Callable[[Mapping[str, Any]], None]


def run_one(
    settings: dict[str, Any],
    folder: str | Path,
    on_progress: Report,
    counted: Mapping[str, Any] | None = None,
    has_device: bool = True,
) -> dict[str, Any]:
    """Train a run to its end, measure it, and write ``result.json``.

    It goes on from ``last.ckpt`` in the folder, if there is one: with the same bits as if it had
    never been interrupted. With the same settings it trains the same bits as ``tessera fit``.

    Args:
        settings: what all follows from, plain: ``row``, ``phase``, ``seed`` (of the weights),
            ``lr``; ``model`` and ``data`` are the arguments of ``TesseraModule`` and
            ``GameDataModule``, ``trainer`` those of ``StreamTrainer``, ``max_steps`` among them.
            If given: ``held_out_seed`` of the validation's and the test's games; ``is_tested``,
            whether it is measured on the test's games (otherwise on the validation's) and
            ``test_on``, players to be tested on beside the run's own; ``num_points`` of the curve;
            ``keeps_checkpoint``, whether ``last.ckpt`` of the end stays.
        folder: of the run; it is made if it is not there.
        on_progress: told of ``step``, ``steps`` and the newest ``excess_nats`` from time to time.
        counted: figures that are known of the model, ``flops_per_token`` among them; they go into
            ``figures``.
        has_device: whether the run has its device for itself, so that its speed means something.

    Returns:
        What result.json holds; ``run_id`` is the folder's name, ``wall_s`` are the seconds of this
        call, all included.

    Raises:
        SettingError: for settings that cannot be run.
        DivergedError: if a loss or a weight is not finite.
        Stopped: after a signal, with ``last.ckpt`` written.
        CheckpointError: if another process writes to the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock, began = RunLock(), time.monotonic()
    lock.take(folder)
    _free_memory()  # of a run that failed
    try:
        (folder / SETTINGS).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        result = {"run_id": folder.name, **_train(settings, folder, on_progress)}
        figures, model, data = result["figures"], settings["model"], settings["data"]
        figures |= {name: value for name, value in (counted or {}).items() if value is not None}
        figures |= {"board_size": data["board_size"], "player": data["player"]}
        figures["features"] = model.get("features", "none")
        if "flops_per_token" in figures:
            figures["C"] = 3 * figures["flops_per_token"] * figures["D"]
        result["wall_s"] = time.monotonic() - began
        if not has_device:
            for name in _OF_SPEED:
                figures.pop(name, None)
            result["curve"] = [{**point, "seconds": None} for point in result["curve"]]
        write_whole(folder / RESULT, json.dumps(result, allow_nan=False) + "\n")
        if not settings.get("keeps_checkpoint"):
            (folder / LAST).unlink(missing_ok=True)
        return result
    finally:
        lock.release()
        _free_memory()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def measure(settings: dict[str, Any], seconds: float) -> float | None:
    """Seconds of a step of a run, of which a part is trained and nothing written.

    Args:
        settings: as for ``run_one``.
        seconds: of training, behind the first steps.

    Returns:
        None if the whole run is too short to say.
    """
    _free_memory()
    seed_everything(settings["seed"], workers=True)
    module = TesseraModule(**settings["model"])
    pace = Pace(min(_BRIEF, settings["trainer"]["max_steps"]), module.pad_token)
    games = games_of(settings)
    games.is_measured = False
    trainer = new_trainer(settings, [pace, _Ending(pace, seconds)])
    trainer.fit(module, datamodule=games)
    return pace.step_s


def write_whole(path: Path, text: str) -> None:
    """Write a file, which is the old or the new at any moment."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _train(settings: dict[str, Any], folder: Path, on_progress: Report) -> dict[str, Any]:
    seed_everything(settings["seed"], workers=True)
    module = TesseraModule(**settings["model"])
    steps = settings["trainer"]["max_steps"]
    points = validation_points(steps, settings.get("num_points", _NUM_POINTS))
    pace = Pace(steps, module.pad_token)
    held_out = HeldOut(points, pace)
    checkpoint = RunCheckpoint(folder, points, pace, bool(settings.get("keeps_checkpoint")))
    callbacks = [pace, held_out, _Progress(steps, held_out, on_progress), checkpoint]
    trainer, games = new_trainer(settings, callbacks), games_of(settings)
    _fit(trainer, module, games, folder / LAST)
    if held_out.newest is None:  # it goes on from the very end
        trainer.validate(module, datamodule=games, verbose=False)
    own = held_out.newest
    tested: dict[str, Any] = {}
    if settings.get("is_tested"):
        trainer.test(module, datamodule=games, verbose=False)
        own = held_out.newest
        for player in settings.get("test_on", ()):
            trainer.test(module, datamodule=games_of(settings, player), verbose=False)
            assert held_out.newest is not None
            tested[player] = held_out.newest.as_dict()
    assert own is not None
    figures = {"D": pace.tokens, "steps": steps, **_speed(pace)}
    return {
        **{name: settings[name] for name in ("row", "phase", "seed", "lr")},
        **own.as_dict(),
        "figures": {**figures, **own.figures},
        "curve": held_out.curve,
        "tested": tested,
    }


def new_trainer(settings: Mapping[str, Any], callbacks: list[Callback]) -> StreamTrainer:
    """The trainer of ``tessera fit``, on one device, without curves, bars and sanity checks."""
    compiling = [] if settings["row"] in _compiled else [KernelsTogether()]
    _compiled.add(settings["row"])
    trainer = StreamTrainer(
        **settings["trainer"],
        max_epochs=-1,
        devices=1,
        callbacks=[*compiling, *callbacks],
        plugins=[AtomicCheckpointIO()],
        profiler=Unprofiled(),
        logger=False,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=1,  # HeldOut says when
        check_val_every_n_epoch=None,
        log_every_n_steps=_LOG_EVERY,
    )
    keep_signals(trainer)
    return trainer


def _fit(trainer: Trainer, module: TesseraModule, games: Any, last: Path) -> None:
    if last.exists():
        try:
            trainer.fit(module, datamodule=games, ckpt_path=str(last))
            return
        except CheckpointError:  # nothing was taken from it
            last.unlink()
    trainer.fit(module, datamodule=games)


def _speed(pace: Pace) -> dict[str, Any]:
    """How long it took and how much memory, as far as it was measured."""
    found: dict[str, Any] = {}
    if pace.seconds:
        found = {"seconds": pace.seconds, "tokens_per_s": pace.tokens / pace.seconds}
    return found if pace.peak_bytes is None else {**found, "peak_mb": pace.peak_bytes / _MIB}


class _Ending(Callback):
    """Ends a training once it was timed for so many seconds."""

    def __init__(self, pace: Pace, seconds: float) -> None:
        self._pace, self._seconds, self._until = pace, seconds, float("inf")

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """End it."""
        if self._pace.is_timing and self._until == float("inf"):
            self._until = time.monotonic() + self._seconds
        trainer.should_stop = time.monotonic() >= self._until


class _Progress(Callback):
    """Says how far a run has come, without asking the GPU."""

    def __init__(self, steps: int, held_out: HeldOut, report: Report) -> None:
        self._steps, self._held_out, self._report = steps, held_out, report

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Say it."""
        curve = self._held_out.curve
        newest = curve[-1]["excess_nats"] if curve else None
        told = {"step": trainer.global_step, "steps": self._steps, "excess_nats": newest}
        self._report(told)


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a finished run has written; None if there is nothing whole."""
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return result if isinstance(result, dict) and "figures" in result else None
    return None
