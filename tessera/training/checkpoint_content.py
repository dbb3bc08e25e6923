"""What is in a checkpoint is checked once, when it was read, before anything is made of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from tessera.data import GameDataModule
from tessera.training.checkpoint_file import CheckpointError
from tessera.training.checkpoint_parts import ContentError, check_dense, check_weights, named, shown
from tessera.training.checkpoint_progress import check_progress
from tessera.training.module import TesseraModule
from tessera.training.resume import board_size_of
from tessera.vocabulary import MIN_BOARD_SIZE

_SIZES = ("vocab_size", "d_model", "d_state", "d_conv", "expand")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def check_content(path: Path, checkpoint: Mapping[str, Any], is_fit: bool) -> None:
    """Make sure that a checkpoint holds what a command will take from it.

    A measurement needs the settings and the weights; training also how far the run had come.

    Args:
        path: the file, for the message.
        checkpoint: its content.
        is_fit: whether training goes on.

    Raises:
        CheckpointError: one line, the first thing that is wrong.
    """
    try:
        version = checkpoint.get("pytorch-lightning_version")
        if not isinstance(version, str) or not re.fullmatch(r"[2-9]\.\d+[a-z\d.+]*", version):
            raise ContentError(
                f"pytorch-lightning_version must be 2.0 or more, got {shown(version)}"
            )
        module = _module_of(checkpoint)
        check_weights("state_dict", checkpoint["state_dict"], module.state_dict())
        check_progress(checkpoint, module, is_fit)
    except ContentError as error:
        raise CheckpointError(f"{path} cannot be used: {error}.") from error


def _module_of(checkpoint: Mapping[str, Any]) -> TesseraModule:
    """The module of the checkpoint's settings, without memory and without random numbers."""
    settings = checkpoint["hyper_parameters"]
    games = checkpoint.get("datamodule_hyper_parameters", {})
    _check_settings("hyper_parameters", settings, "model", TesseraModule)
    _check_settings("datamodule_hyper_parameters", games, "data", GameDataModule)
    _check_sizes(settings, checkpoint.get("state_dict"))
    try:
        # On which machine the run was is none of the checkpoint's concern.
        GameDataModule(**{**games, "backend": "auto"})
        with torch.device("meta"):
            module = TesseraModule(**{**settings, "scan": "auto"})
    except (ValueError, OverflowError, RuntimeError) as error:
        raise ContentError(str(error).splitlines()[0].rstrip(".")) from error
    tokens = module.model.vocab_size
    board_size = games.get("board_size", board_size_of(tokens))
    if tokens != board_size**2 + 3 or board_size < MIN_BOARD_SIZE:
        raise ContentError(
            f"model.vocab_size must be {board_size**2 + 3} on a {board_size}×{board_size} board, "
            f"got {tokens}"
        )
    return module


def _check_settings(name: str, values: Any, section: str, klass: Any) -> None:
    """Names and types."""
    if not isinstance(values, dict):
        raise ContentError(f"{name} must hold settings by name, got {shown(values)}")
    hints = get_type_hints(klass.__init__)
    hints.pop("return")
    for key, value in values.items():
        if key not in hints:
            raise ContentError(f"{section}.{named(key)} is no setting of this version")
        if not _is(value, hints[key]):
            allowed = _allowed(hints[key])
            raise ContentError(f"{section}.{key} must be {allowed}, got {shown(value)}")


def _check_sizes(settings: Mapping[str, Any], weights: Any) -> None:
    """Sizes that the weights could have: a model of any others may take for ever to describe."""
    if not isinstance(weights, dict) or not weights:
        raise ContentError(f"state_dict must hold weights by name, got {shown(weights)}")
    for name, weight in weights.items():
        check_dense(f"state_dict {named(name)}", weight)
    most = max(weight.numel() for weight in weights.values())
    limits = {**dict.fromkeys(_SIZES, most), "n_layers": len(weights)}
    for name, limit in limits.items():
        if settings.get(name, 1) > limit:
            raise ContentError(
                f"model.{name} is {settings[name]}, too much for the weights there are"
            )


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; a bool is no number, and a number is no infinity."""
    if get_origin(kind) is Literal:
        return type(value) is str and value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is(value, part) for part in get_args(kind))
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind


def _allowed(kind: Any) -> str:
    """An annotated type in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_allowed(part) for part in get_args(kind))
    return _WORDS.get(kind, "null")
