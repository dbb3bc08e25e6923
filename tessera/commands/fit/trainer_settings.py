"""What a trainer's settings must be here, looked at before there is a trainer."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Timer

from tessera.commands.fit.durations import duration_text, seconds_of
from tessera.commands.fit.launcher import launcher, launcher_problems
from tessera.training.calibration import CALIBRATION_METRICS
from tessera.training.metrics import metric_names
from tessera.training.objectives.next_move import FIGURES
from tessera.training.outcome_metrics import OUTCOME_METRICS

# The least value of each whole number; null is what Lightning makes of it.
_LEAST = {
    "num_nodes": 1,
    "fast_dev_run": 0,
    "max_epochs": -1,
    "min_epochs": 0,
    "max_steps": -1,
    "min_steps": 0,
    "limit_train_batches": 1,
    "limit_val_batches": 0,
    "limit_test_batches": 1,
    "limit_predict_batches": 1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "reload_dataloaders_every_n_epochs": 0,
}

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": 10_000,
    "max_epochs": -1,  # the stream is one endless epoch, so steps are what is counted
    "gradient_clip_val": 1.0,  # against a diverging state
    "val_check_interval": 500,  # batches
    "check_val_every_n_epoch": None,  # count batches over the whole run
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}

# What other strategies save is no single file, or they start processes that save nothing.
STRATEGIES = (
    "auto",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
)

# Names; a part given by its class has its own checks.
_ONE_OF = {
    "accelerator": ("auto", "cpu", "gpu", "cuda"),
    "strategy": STRATEGIES,
    # Transformer Engine replaces layers that there are none of in a Mamba block.
    "precision": (
        *("64", "32", "16", "bf16"),
        *("64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    ),
    "gradient_clip_algorithm": ("norm", "value"),
    "profiler": ("simple", "advanced", "pytorch"),
}

# Lightning's settings that cannot be obeyed here, the value that means without, and why.
_WITHOUT = {
    "overfit_batches": (0, "training never sees a game twice"),
    "barebones": (False, "checkpoints and curves are part of a run"),
    "model_registry": (None, "checkpoints are files"),
}

_MOST_PROCESSES = 8  # on a CPU of fewer cores, where they wait for each other
_ONE_FOR_PREDICT = "devices must be 1 for predict, which gives the games in order"
_OWN_PACKAGES = ("lightning.", "tessera.")
_TRAIN_TAGS = (*FIGURES, "lr", "tokens_per_s")


def trainer_problems(settings: Namespace, command: str, has_outcome: bool) -> list[str]:
    """One line for every setting of the trainer that cannot be run, ``trainer.…`` as in YAML.

    Args:
        settings: the trainer's, as they were parsed.
        command: fit, validate, test or predict.
        has_outcome: whether the model learns an outcome, whose metrics a callback may wait for.
    """
    problems = [
        f"{name} must be at least {low}, got {settings[name]}."
        for name, low in _LEAST.items()
        if settings[name] is not None and not low <= settings[name] < math.inf
    ]
    for name, allowed in _ONE_OF.items():
        value = settings[name]
        if isinstance(value, str) and value not in allowed:
            problems.append(f"{name} must be one of {', '.join(allowed)}, got {value}.")
    for name, (value, why) in _WITHOUT.items():
        if settings[name] != value:
            shown = "null" if value is None else str(value).lower()
            problems.append(f"{name} must be {shown}: {why}; got {settings[name]}.")
    problems += _devices(settings, command)
    problems += _times(settings)
    problems += _epochs(settings)
    problems += _folder(settings.default_root_dir)
    if command == "fit":
        problems += _monitored(settings.callbacks, has_outcome)
    elif command == "validate" and settings.limit_val_batches == 0:
        problems.append("limit_val_batches must be at least 1 to validate, got 0.")
    return [f"trainer.{problem}" for problem in problems]


def has_timer(settings: Namespace) -> bool:
    """Whether the training has a limit of time."""
    given = settings.callbacks if isinstance(settings.callbacks, list) else [settings.callbacks]
    return settings.max_time is not None or any(isinstance(each, Timer) for each in given)


def has_several_processes(settings: Namespace) -> bool:
    """Whether settings that can be run make more than one process, each with its device."""
    found = 0 if settings.accelerator == "cpu" else torch.cuda.device_count()
    text, (is_list, given) = str(settings.devices), _named(settings.devices)
    number = max(1, found) if text in ("auto", "-1") else len(given) if is_list else int(text)
    return number * settings.num_nodes > 1


def _named(devices: Any) -> tuple[bool, list[str]]:
    """Whether devices are a list of their numbers, and the numbers."""
    given = re.sub(r"\s", "", str(devices)).strip("[]").split(",")
    return isinstance(devices, list) or "," in str(devices), given


def _devices(settings: Namespace, command: str) -> Iterator[str]:
    found = torch.cuda.device_count()
    if settings.accelerator in ("gpu", "cuda") and not found:
        yield f"accelerator must be cpu where torch finds no GPU, got {settings.accelerator}."
        return
    on_cpu = settings.accelerator == "cpu" or not found
    devices = settings.devices
    text = str(devices)
    is_list, given = _named(devices)
    number, wanted = 1 if on_cpu else found, ""
    if is_list and all(re.fullmatch(r"\d+", part) for part in given):
        number = len(given)
        if on_cpu:
            wanted = "a number of processes on a CPU"
        elif len(set(given)) < number or max(map(int, given)) >= found:
            wanted = f"different numbers from 0 to {found - 1}, the GPUs that torch finds here"
    elif not is_list and re.fullmatch(r"[1-9]\d*", text):
        number = int(text)
        most = max(_MOST_PROCESSES, os.cpu_count() or 1) if on_cpu else found
        if number > most:
            what = "most processes on this CPU" if on_cpu else "GPUs that torch finds here"
            wanted = f"at most {most}, the {what}"
    elif is_list or text not in ("auto", "-1"):
        wanted = "a number of devices, a list of their numbers or auto"
    if wanted:
        yield f"devices must be {wanted}, got {text}."
    elif command == "predict":
        started = launcher()
        if number > 1 or settings.num_nodes > 1:
            nodes = "" if settings.num_nodes == 1 else f" on {settings.num_nodes} nodes"
            yield f"{_ONE_FOR_PREDICT}, got {number}{nodes}."
        elif started is not None and started.world_size > 1:
            yield f"{_ONE_FOR_PREDICT}, got {started.world_size} from {started.name}."
    # Another environment that the user names does not listen to the launcher.
    elif "Environment" not in str(settings.plugins):
        yield from launcher_problems(text, number, settings.num_nodes)


def _times(settings: Namespace) -> Iterator[str]:
    if settings.max_time is not None and seconds_of(settings.max_time) is None:
        yield f"max_time must be DD:HH:MM:SS or null, got {settings.max_time}."
    interval = settings.val_check_interval
    whole = isinstance(interval, int) and not isinstance(interval, bool) and interval >= 1
    if interval is not None and not whole and not seconds_of(interval):
        yield f"val_check_interval must be batches, at least 1, or DD:HH:MM:SS, got {interval}."


def _epochs(settings: Namespace) -> Iterator[str]:
    """An epoch of an endless stream ends only where a number of batches makes it end."""
    if settings.limit_train_batches is not None or settings.fast_dev_run:
        return
    for name, without, see in (
        ("max_epochs", -1, "max_steps"),
        ("min_epochs", -1, "max_steps"),
        ("check_val_every_n_epoch", 1, "val_check_interval"),
    ):
        if (settings[name] or 0) > max(0, without):
            yield (
                f"{name} must be null or {without} where trainer.limit_train_batches is null, "
                f"because the stream is one endless epoch (see trainer.{see}), "
                f"got {settings[name]}."
            )


def _folder(root: Any) -> Iterator[str]:
    if root is None:
        return
    if re.match(r"\w+://", str(root)) or "\0" in str(root):
        yield f"default_root_dir must be a folder of this machine, got {root}."
        return
    # What is not there yet will be made, below what there is.
    for path in (Path(root), *Path(root).parents):
        if path.exists() and not path.is_dir():
            yield f"default_root_dir must be a folder, and {path} is a file; got {root}."


def _monitored(callbacks: Any, has_outcome: bool) -> Iterator[str]:
    """Callbacks that wait for a metric which nobody logs."""
    given = callbacks if isinstance(callbacks, list) else [callbacks]
    given = [callback for callback in given if isinstance(callback, Mapping | Namespace)]
    if any(not str(callback["class_path"]).startswith(_OWN_PACKAGES) for callback in given):
        return  # it may log what the others wait for
    held_out = [f"val/{name}" for name in (*metric_names(), *CALIBRATION_METRICS)]
    if has_outcome:
        held_out += [f"val/{name}" for name in OUTCOME_METRICS]
    logged = [*(f"train/{name}" for name in _TRAIN_TAGS), *held_out]
    for callback in given:
        monitor = (callback.get("init_args") or {}).get("monitor")
        if monitor is not None and monitor not in logged:
            kind = str(callback["class_path"]).rpartition(".")[2]
            few = ", ".join(tag for tag in logged if "_by_" not in tag)
            yield (
                f"callbacks: {kind} monitors {monitor}, which is not logged; there are {few}, and "
                "val/excess_nats, val/legal_mass and val/legal_top1 by groups."
            )


def spent_limits(settings: Namespace, checkpoint: Mapping[str, Any], path: Path) -> list[str]:
    """One line for every limit of the training that the checkpoint's run has reached already.

    Args:
        settings: the trainer's.
        checkpoint: a checkpoint's content.
        path: its file, for the message.
    """
    timer = checkpoint.get("callbacks", {}).get("Timer")
    elapsed_s = timer["time_elapsed"]["train"] if timer else 0.0
    limit_s = seconds_of(settings.max_time)
    steps, epochs = checkpoint["global_step"], checkpoint.get("epoch", 0)
    spent = (
        ("max_steps", str(steps), 0 <= settings.max_steps <= steps),
        ("max_epochs", str(epochs), 0 < (settings.max_epochs or 0) <= epochs),
        ("max_time", duration_text(int(elapsed_s)), limit_s is not None and limit_s <= elapsed_s),
    )
    return [
        f"trainer.{name} must be more than the {had} that {path} has, got {settings[name]}."
        for name, had, is_spent in spent
        if is_spent
    ]
