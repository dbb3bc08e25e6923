"""Settings and checkpoints of earlier versions, as they are today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# They stood beside the model's own, and were those of whichever mixer there was.
OF_THE_MIXER = ("d_state", "d_conv", "expand", "scan")
_MIXERS = ("mamba", "mamba2")
# With "compile" torch.compile fused what CUDA graphs and kernels have made as fast without.
EARLIER = (*OF_THE_MIXER, "compile")


def upgraded_settings(model: Mapping[Any, Any]) -> dict[Any, Any]:
    """The model's settings by today's names; those that had others then are moved,
    and what there is no more is left out.

    Args:
        model: anything that stands under ``model``. Where it names no mixer, a setting is moved to
            both mixers that there were, since either may be chosen elsewhere.
    """
    found = dict(model)
    chosen = found.get("mixer")
    for mixer in [chosen] if chosen in _MIXERS else _MIXERS:
        moved = {name: model[name] for name in OF_THE_MIXER if name in model}
        if mixer == "mamba2" and chosen is None and moved.get("scan") == "triton":
            del moved["scan"]  # which that mixer has not
        if moved:
            given = found.get(mixer, {})
            found[mixer] = {**moved, **given} if isinstance(given, Mapping) else given
    return {name: value for name, value in found.items() if name not in EARLIER}


def upgraded(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with today's names of settings and weights; in one of today all are left.

    Args:
        checkpoint: what is in a file, which may be anything; what it is not, is left alone.
    """
    settings = checkpoint.get("hyper_parameters")
    if not isinstance(settings, dict):
        return checkpoint
    settings = upgraded_settings(settings)
    result = {**checkpoint, "hyper_parameters": settings}
    if "blocks" in _second_names(checkpoint.get("state_dict")):  # not from before that
        return result
    is_bare = settings.get("n_layers", 1) == 1
    if isinstance(checkpoint.get("state_dict"), dict):
        result["state_dict"] = _renamed(checkpoint["state_dict"], "model.", is_bare)
    stream = checkpoint.get("GameDataModule")
    if isinstance(stream, dict) and isinstance(stream.get("selfplay_weights"), dict):
        weights = {
            chunk: _renamed(own, "", is_bare) if isinstance(own, dict) else own
            for chunk, own in stream["selfplay_weights"].items()
        }
        result["GameDataModule"] = {**stream, "selfplay_weights": weights}
    return result


def _renamed(weights: Mapping[Any, Any], prefix: str, is_bare: bool) -> dict[Any, Any]:
    """The same weights in the same order, by today's names."""
    then, now = f"{prefix}mamba.", f"{prefix}blocks.{'mixers.0.' if is_bare else ''}"
    return {
        now + name.removeprefix(then) if str(name).startswith(then) else name: weight
        for name, weight in weights.items()
    }


def _second_names(weights: Any) -> set[str]:
    """The parts of a module's model that have weights."""
    names = weights if isinstance(weights, dict) else ()
    return {name.split(".")[1] for name in names if isinstance(name, str) and "." in name}
