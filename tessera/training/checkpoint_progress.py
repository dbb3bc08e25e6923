"""How far a checkpoint's run had come: what training goes on from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from tessera.data import GameDataModule
from tessera.data.stream import VAL_NUMBERS
from tessera.training.checkpoint_parts import (
    ContentError,
    check_counts,
    check_tensor,
    check_weights,
    shown,
)
from tessera.training.module import TesseraModule

_NEEDED = (
    "global_step",
    "epoch",
    "loops",
    "optimizer_states",
    "lr_schedulers",
    "GameDataModule",
    "datamodule_hyper_parameters",
)

# Lightning's counters.
_DONE = {"ready": 0, "completed": 0}
_BEGUN = {**_DONE, "started": 0}
_BATCHES = {**_BEGUN, "processed": 0}
_PROGRESS = {"total": _BATCHES, "current": _BATCHES}
_BATCH_PROGRESS = {**_PROGRESS, "is_last_batch": False}
_STEPS = {"total": _DONE, "current": _DONE}
_OPTIMIZER = "epoch_loop.automatic_optimization.optim_progress"
_LOOPS = {
    "fit_loop": {
        "epoch_progress": _PROGRESS,
        "epoch_loop.state_dict": {"_batches_that_stepped": 0},
        "epoch_loop.batch_progress": _BATCH_PROGRESS,
        "epoch_loop.scheduler_progress": _STEPS,
        _OPTIMIZER: {
            "optimizer": {"step": _STEPS, "zero_grad": {"total": _BEGUN, "current": _BEGUN}}
        },
        "epoch_loop.manual_optimization.optim_step_progress": _STEPS,
        "epoch_loop.val_loop.batch_progress": _BATCH_PROGRESS,
    },
    "validate_loop": {"batch_progress": _BATCH_PROGRESS},
    "test_loop": {"batch_progress": _BATCH_PROGRESS},
    "predict_loop": {"batch_progress": _PROGRESS},
}

# What a run sets anew before its first step, or what only says how AdamW is computed.
_FREE = {"params", "lr", "fused", "foreach"}


def check_progress(checkpoint: Mapping[str, Any], module: TesseraModule, is_fit: bool) -> None:
    """Make sure that what Lightning and the stream take from a checkpoint is fit to be taken.

    Args:
        checkpoint: its content, of which anything but the settings and the weights is looked at.
        module: of the checkpoint's settings; it needs no memory.
        is_fit: whether all of it must be there. A measurement needs none of it, but what there is
            is loaded.

    Raises:
        ContentError: at the first part that is wrong.
    """
    if is_fit and "exported" in checkpoint:
        raise ContentError(
            "an exported model has no optimizer, so it can be measured but not trained on; "
            "give the run's own last.ckpt"
        )
    missing = [name for name in _NEEDED if name not in checkpoint]
    if is_fit and missing:
        raise ContentError(f"it has no {missing[0]}, so it can be measured but not trained on")
    for name in ("epoch", "global_step"):
        if name in checkpoint:
            check_counts(name, checkpoint[name], 0)
    if "loops" in checkpoint:
        check_counts("loops", checkpoint["loops"], _LOOPS)
        steps = checkpoint["loops"]["fit_loop"][_OPTIMIZER]["optimizer"]["step"]["total"]
        if steps["completed"] != checkpoint.get("global_step", steps["completed"]):
            raise ContentError(
                f"global_step must be {steps['completed']}, the steps that its loops have counted, "
                f"got {checkpoint['global_step']}"
            )
    if "callbacks" in checkpoint:
        _check_callbacks(checkpoint["callbacks"])
    if "GameDataModule" in checkpoint:
        _check_stream("GameDataModule", checkpoint["GameDataModule"], module)
    # On which machine the run was is none of the checkpoint's concern.
    of_data = {**checkpoint.get("datamodule_hyper_parameters", {}), "backend": "auto"}
    games = GameDataModule(**of_data).settings
    module.objective.check_saved(checkpoint.get("objective", {}), games)
    scaler = checkpoint.get("MixedPrecision")
    if scaler is not None:
        _check_scaler("MixedPrecision", scaler)
    if is_fit:
        if checkpoint["lr_schedulers"] != []:  # the learning rate is a function of the step
            raise ContentError(
                f"lr_schedulers must be an empty list, got {shown(checkpoint['lr_schedulers'])}"
            )
        # In float16 the first steps may have been left out, because their gradients overflowed.
        has_moments = checkpoint["global_step"] > 0 and scaler is None
        _check_optimizer("optimizer_states", checkpoint["optimizer_states"], module, has_moments)


def _check_callbacks(states: Any) -> None:
    """The states of callbacks by name; of Lightning's timer, which ends a run, what is in it."""
    if not isinstance(states, dict):
        raise ContentError(f"callbacks must be a dict, got {shown(states)}")
    for name, state in states.items():
        if not isinstance(state, dict):
            raise ContentError(f"callbacks {name} must be a dict, got {shown(state)}")
    if "Timer" in states:
        elapsed = states["Timer"].get("time_elapsed")
        seconds: Any = elapsed.get("train") if isinstance(elapsed, dict) else elapsed
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise ContentError(f"callbacks Timer must say its seconds, got {shown(elapsed)}")


def _check_stream(name: str, state: Any, module: TesseraModule) -> None:
    """The position in the training stream, and the weights that its games are played by."""
    check_counts(name, state, {"batches_trained": 0, "batches_per_chunk": 1, "games_per_chunk": 1})
    games = state["batches_trained"] // state["batches_per_chunk"] * state["games_per_chunk"]
    if games >= VAL_NUMBERS:
        raise ContentError(
            f"{name} batches_trained must leave the games of training, of which there are "
            f"{VAL_NUMBERS}, got {state['batches_trained']}"
        )
    for count in ("games_that_fit", "batch_size"):
        check_counts(f"{name} {count}", state.get(count, 1), 1)
    weights = state.get("selfplay_weights", {})
    if not isinstance(weights, dict):
        raise ContentError(f"{name} selfplay_weights must be a dict, got {shown(weights)}")
    for chunk, played_by in weights.items():
        check_counts(f"a chunk of {name} selfplay_weights", chunk, 0)
        own = f"{name} selfplay_weights {chunk}"
        check_weights(own, played_by, module.model.state_dict())


def _check_scaler(name: str, state: Any) -> None:
    """What float16 multiplies losses by."""
    check_counts(name, state, {"_growth_tracker": 0})
    for key in ("scale", "growth_factor", "backoff_factor", "growth_interval"):
        _check_number(f"{name} {key}", state.get(key))


def _check_optimizer(name: str, states: Any, module: TesseraModule, has_moments: bool) -> None:
    """AdamW's state, which torch takes whatever it is, to fail in the first step."""
    if not isinstance(states, list) or len(states) != 1 or not isinstance(states[0], dict):
        raise ContentError(f"{name} must be those of one optimizer, got {shown(states)}")
    groups, moments = states[0].get("param_groups"), states[0].get("state")
    optimizer = module.configure_optimizers()
    expected = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(expected):
        raise ContentError(f"{name} must have {len(expected)} groups, got {shown(groups)}")
    for number, (group, own) in enumerate(zip(groups, expected, strict=True)):
        _check_group(f"{name}, group {number},", group, own, is_decayed=number == 0)
    if not isinstance(moments, dict):
        raise ContentError(f"{name} must hold moments by parameter, got {shown(moments)}")
    if not moments and not has_moments:
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, weight in enumerate(weights):
        if index not in moments and module.objective.leaves_out:
            continue
        _check_moments(f"{name} {index}", moments.get(index), weight.shape)


def _check_group(name: str, group: Any, own: dict[str, Any], is_decayed: bool) -> None:
    # By their texts: a value may be of a kind that cannot be compared.
    if not isinstance(group, dict) or repr(group.get("params")) != repr(own["params"]):
        first, last = own["params"][0], own["params"][-1]
        raise ContentError(f"{name} must be of the parameters {first} to {last}")
    for key in ("lr", "weight_decay"):
        _check_number(f"{name} {key}", group.get(key))
    for key in ("betas", "eps"):
        if key not in group:
            raise ContentError(f"{name} lacks {key}")
    # The weight decay of matrices is set anew as well.
    free = {*_FREE, "weight_decay"} if is_decayed else _FREE
    for key in own:
        if key in group and key not in free and repr(group[key]) != repr(own[key]):
            raise ContentError(f"{name} must have {key} {own[key]}, got {shown(group[key])}")
    for key in ("fused", "foreach"):
        if not isinstance(group.get(key), bool | None):
            raise ContentError(f"{name} {key} must be a bool or None, got {shown(group[key])}")


def _check_moments(name: str, moments: Any, shape: torch.Size) -> None:
    if not isinstance(moments, dict):
        raise ContentError(f"{name} must hold moments by name, got {shown(moments)}")
    check_tensor(f"{name} step", moments.get("step"), torch.Size())
    for key in ("exp_avg", "exp_avg_sq"):
        check_tensor(f"{name} {key}", moments.get(key), shape)
    for key in ("step", "exp_avg_sq"):
        if moments[key].min() < 0:
            raise ContentError(f"{name} {key} must not be negative")


def _check_number(name: str, value: Any) -> None:
    """Raise ContentError unless a value is a finite number of at least 0."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ContentError(f"{name} must be a number of at least 0, got {shown(value)}")
