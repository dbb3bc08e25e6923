"""What a checkpoint brings to a command line, and what it forbids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tessera.model import ModelSettings
from tessera.setting_errors import Problem
from tessera.training.objectives import OBJECTIVES, fixed_settings
from tessera.vocabulary import board_size_of

# What a run that goes on may change of its data: no game that was played depends on it.
_FREE = (
    "batch_size",
    "context",
    "games_per_chunk",
    "windows_per_game",
    "val_batches",
    "test_batches",
    "backend",
    "selfplay_share",
    "selfplay_temperature",
)


def settings_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the checkpoint's run had, by the names of the command line."""
    # There was a time when no checkpoint named its mixer and objective, because there was one.
    settings: dict[str, Any] = {"model.mixer": "mamba", "model.objective": "next_move"}
    for name, value in checkpoint.get("hyper_parameters", {}).items():
        if name != "own" and isinstance(value, dict):
            settings |= {f"model.{name}.{own}": part for own, part in value.items()}
        else:
            settings[f"model.{name}"] = value
    games = checkpoint.get("datamodule_hyper_parameters", {})
    if games:  # nor did any say how its games are scored, or whether settled points are left alone
        settings |= {"data.score": None, "data.skip_settled": False}
    settings |= {f"data.{name}": value for name, value in games.items()}
    tokens = settings.pop("model.vocab_size", None)  # follows from data.board_size
    if tokens is not None:  # of a module that was trained on other data than this program's
        settings.setdefault("data.board_size", board_size_of(tokens))
    return settings


def conflicts(
    path: Path, checkpoint: Mapping[str, Any], wanted: Mapping[str, Any], is_fit: bool
) -> list[Problem]:
    """A problem for every setting that cannot differ from the checkpoint's.

    Args:
        path: the checkpoint's file, for the message.
        checkpoint: its content.
        wanted: the settings asked for, by the names of the command line.
        is_fit: whether training goes on; a measurement may be made on other games.
    """
    had, model = settings_of(checkpoint), ModelSettings.of(checkpoint.get("hyper_parameters", {}))
    fixed = [f"model.{name}" for name in model.fixed()]
    learned = had["model.objective"]
    fixed += [f"model.{name}" for name in ("objective", *fixed_settings(learned))]
    if is_fit:
        of_data = (name for name in had if name.startswith("data."))
        fixed += [name for name in of_data if name.removeprefix("data.") not in _FREE]
    if model.is_of_any_board() and not (is_fit and OBJECTIVES[learned].keeps_games):
        fixed = [name for name in fixed if name != "data.board_size"]
    else:
        fixed.insert(0, "data.board_size")

    def compared(name: str, value: Any) -> Any:
        """Mixers are the same if those of the layers are, however they are spelt."""
        return replace(model, mixer=value).mixer_names() if name == "model.mixer" else value

    return [
        Problem(name, _text(wanted[name]), f"be {_text(had[name])} to go on from {path}")
        for name in dict.fromkeys(fixed)
        if name in had and compared(name, wanted[name]) != compared(name, had[name])
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(part)}' for key, part in value.items())}}}"
    return "null" if value is None else str(value)
