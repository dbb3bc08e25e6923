"""What is in a checkpoint is checked once, when it was read, before anything is made of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from tessera.data import GameDataModule
from tessera.model import GameModel, ModelSettings
from tessera.setting_errors import Problem, SettingError, under
from tessera.training.checkpoint_file import CheckpointError, describe_exported, read_checkpoint
from tessera.training.checkpoint_parts import ContentError, check_dense, check_weights, named, shown
from tessera.training.checkpoint_progress import check_progress
from tessera.training.module import TesseraModule
from tessera.vocabulary import MIN_BOARD_SIZE, board_size_of, num_tokens

_ANY_SIZE = 2**12  # is described at once, whatever the weights are
_FEW_LAYERS = 64  # are built as fast as anything is read
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "settings by name",
}


def read_checked(path: str | Path, is_fit: bool, named: Collection[str] = ()) -> dict[str, Any]:
    """A file's content, see ``read_checkpoint`` and ``check_content``.

    Of an exported model the settings are looked at, and the weights' names, shapes and types,
    before memory is taken for it.

    Args:
        path: the file.
        is_fit: whether training goes on.
        named: class paths that the user named.

    Raises:
        CheckpointError: one line, the first thing that is wrong.
        MemoryError: if there is no memory for it.
    """
    path = Path(path)
    if (told := describe_exported(path)) is not None:
        check_content(path, told, is_fit, named)
    checkpoint = read_checkpoint(path)
    check_content(path, checkpoint, is_fit, named)
    return checkpoint


def check_content(
    path: Path, checkpoint: Mapping[str, Any], is_fit: bool, named: Collection[str] = ()
) -> None:
    """Make sure that a checkpoint holds what a command will take from it.

    A measurement needs the settings and the weights; training also how far the run had come.

    Args:
        path: the file, for the message.
        checkpoint: its content.
        is_fit: whether training goes on.
        named: class paths that the user named; a checkpoint alone lets no class be imported.

    Raises:
        CheckpointError: one line, the first thing that is wrong.
    """
    try:
        version = checkpoint.get("pytorch-lightning_version")
        if not isinstance(version, str) or not re.fullmatch(r"[2-9]\.\d+[a-z\d.+]*", version):
            raise ContentError(
                f"pytorch-lightning_version must be 2.0 or more, got {shown(version)}"
            )
        module = _module_of(checkpoint, named)
        check_weights("state_dict", checkpoint["state_dict"], module.state_dict())
        check_progress(checkpoint, module, is_fit)
    except (ContentError, SettingError) as error:
        told = str(error).splitlines()[0].rstrip(".")
        raise CheckpointError(f"{path} cannot be used: {told}.") from error


def _module_of(checkpoint: Mapping[str, Any], named: Collection[str]) -> TesseraModule:
    """The module of the checkpoint's settings, without memory and without random numbers."""
    settings = checkpoint["hyper_parameters"]
    games = checkpoint.get("datamodule_hyper_parameters", {})
    schedule = _hints(TesseraModule.__init__)
    _check_settings("hyper_parameters", settings, "model", schedule | _hints(ModelSettings))
    of_data = _hints(GameDataModule.__init__)
    _check_settings("datamodule_hyper_parameters", games, "data", of_data)
    model = ModelSettings.of(settings)
    for own in model.own_parts():
        if own not in named:
            raise ContentError(f"its {own} is used only if the command line or a file names it")
    with under("model"):
        model.check()
    _check_sizes(model, checkpoint.get("state_dict"))
    try:
        # On which machine the run was is none of the checkpoint's concern.
        with under("data"):
            GameDataModule(**{**games, "backend": "auto"})
        with under("model"), torch.device("meta"):
            module = TesseraModule(**on_any_machine(settings))
    except (ValueError, OverflowError, RuntimeError) as error:
        raise error if isinstance(error, SettingError) else ContentError(str(error)) from error
    tokens = module.model.vocab_size
    board_size = games.get("board_size", board_size_of(tokens))
    wanted = num_tokens(board_size)
    if tokens != wanted or board_size < MIN_BOARD_SIZE:
        fitting = f"be {wanted} on a {board_size}×{board_size} board"
        with under("model"):
            raise SettingError(Problem("vocab_size", tokens, fitting))
    return module


def _hints(of: Any) -> dict[str, Any]:
    """The types of what a function or a record is given, by name."""
    hints = get_type_hints(of)
    return {name: hint for name, hint in hints.items() if name not in ("return", "model", "free")}


def on_any_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same with every choice of code left to the machine."""
    parts = ModelSettings.of(settings).parts()
    codes = {
        name: {**settings.get(name, {}), "scan": "auto"}
        for name, part in parts.items()
        if hasattr(part, "scan")
    }
    return {**settings, **codes}


def _check_settings(name: str, values: Any, section: str, hints: Mapping[str, Any]) -> None:
    """Names and types, and in the same way those of every part's settings."""
    if not isinstance(values, dict):
        raise ContentError(f"{name} must hold settings by name, got {shown(values)}")
    for key, value in values.items():
        if key not in hints:
            raise ContentError(f"{section}.{named(key)} is no setting of this version")
        if is_dataclass(hints[key]):
            _check_settings(f"{name} {key}", value, f"{section}.{key}", _hints(hints[key]))
        elif not _is(value, hints[key]):
            allowed = _allowed(hints[key])
            raise ContentError(f"{section}.{key} must be {allowed}, got {shown(value)}")


def _check_sizes(settings: ModelSettings, weights: Any) -> None:
    """Sizes that the weights could have: a model of any others may take for ever to describe."""
    if not isinstance(weights, dict) or not weights:
        raise ContentError(f"state_dict must hold weights by name, got {shown(weights)}")
    for name, weight in weights.items():
        check_dense(f"state_dict {named(name)}", weight)
    # Not every size is one of a weight's: a window of attention, the tokens of a tensor train.
    most = max(_ANY_SIZE, *(weight.numel() for weight in weights.values()))
    sizes = {"vocab_size": settings.vocab_size, **settings.fixed()}
    for name, size in sizes.items():
        limit = most if name != "n_layers" else len(weights) // _weights_of_a_layer(settings)
        if type(size) is int and size > limit:
            raise ContentError(f"model.{name} is {size}, too much for the weights there are")


def _weights_of_a_layer(settings: ModelSettings) -> int:
    """How many weights a layer has at least, which is seen from two small models."""
    if settings.n_layers <= _FEW_LAYERS or settings.own_parts():
        return 1

    def count(mixer: str, n_layers: int) -> int:
        model = GameModel(replace(settings, mixer=mixer, n_layers=n_layers))
        return len(model.state_dict())

    mixers = set(settings.mixers())
    try:
        with torch.device("meta"):
            return max(1, min(count(mixer, 3) - count(mixer, 2) for mixer in mixers))
    except (ValueError, OverflowError, RuntimeError):
        return 1  # what is wrong with the other sizes is said where they are looked at


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type; a bool is no number, and a number is no infinity."""
    if get_origin(kind) is Literal:
        return type(value) is str and value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is(value, part) for part in get_args(kind))
    if get_origin(kind) is list:
        return type(value) is list and all(_is(part, get_args(kind)[0]) for part in value)
    if get_origin(kind) is dict:
        texts, parts = get_args(kind)
        return type(value) is dict and all(
            _is(key, texts) and _is(part, parts) for key, part in value.items()
        )
    if kind is Any:
        return True
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind


def _allowed(kind: Any) -> str:
    """An annotated type in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_allowed(part) for part in get_args(kind))
    if get_origin(kind) is list:
        return "a list of texts"
    return _WORDS.get(get_origin(kind) or kind, "null")
