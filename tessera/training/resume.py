"""What a checkpoint brings to a command line, and what it forbids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Settings that the weights, or the games already seen, depend on.
_WEIGHTS = ("d_model", "d_state", "d_conv", "expand", "n_layers", "mixer")
_GAMES = ("rules", "komi", "ko", "suicide", "max_moves", "player", "seed")


def settings_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the checkpoint's run had, by the names of the command line."""
    # There was a time when no checkpoint named its mixer, because there was one.
    model = {"mixer": "mamba", **checkpoint.get("hyper_parameters", {})}
    data = checkpoint.get("datamodule_hyper_parameters", {})
    settings = {
        f"{part}.{name}": value
        for part, values in (("model", model), ("data", data))
        for name, value in values.items()
    }
    tokens = settings.pop("model.vocab_size", None)  # follows from data.board_size
    if tokens is not None:  # of a module that was trained on other data than this program's
        settings.setdefault("data.board_size", board_size_of(tokens))
    return settings


def board_size_of(tokens: int) -> int:
    """The size n of the largest board whose tokens, n² + 3, are no more than these; at least 0."""
    return math.isqrt(max(0, tokens - 3))


def conflicts(
    path: Path, checkpoint: Mapping[str, Any], wanted: Mapping[str, Any], is_fit: bool
) -> list[str]:
    """One line for every setting that cannot differ from the checkpoint's.

    Args:
        path: the checkpoint's file, for the message.
        checkpoint: its content.
        wanted: the settings asked for, by the names of the command line.
        is_fit: whether training goes on; a measurement may be made on other games.
    """
    had = settings_of(checkpoint)
    fixed = ["data.board_size", *(f"model.{name}" for name in _WEIGHTS)]
    if is_fit:
        fixed += [f"data.{name}" for name in _GAMES]
    return [
        f"{name} must be {_text(had[name])} to go on from {path}, got {_text(wanted[name])}."
        for name in fixed
        if name in had and wanted[name] != had[name]
    ]


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
