"""``--init_from``: a new run begins with the weights of a model that there is already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from tessera.commands.arguments import run_or_file
from tessera.commands.one_line import one_line
from tessera.model import GameModel, ModelSettings
from tessera.setting_errors import SettingError
from tessera.training.checkpoint_content import read_checked
from tessera.training.checkpoint_file import CheckpointError
from tessera.training.checkpoint_parts import ContentError, check_weights, shown
from tessera.training.exported_file import MODEL
from tessera.training.run_folder import find_checkpoint, name_of_model
from tessera.vocabulary import board_size_of, num_tokens

_OPTION = "init_from"


def find_start(settings: Namespace, typed: Sequence[str], run_name: str, root: Path) -> Path | None:
    """The file whose weights a new run begins with; None if it begins with new ones.

    Args:
        settings: of the command, parsed.
        typed: the command line: what a file of settings says of a run that is resumed is no wish.
        run_name: of the runs that ``last`` is the newest of.
        root: the folder of the runs.

    Raises:
        SettingError: if there is a checkpoint to go on from as well, or no name.
        CheckpointError: if there is no such run.
    """
    given = settings.init_from
    if settings.ckpt_path is not None:
        if any(each.partition("=")[0] == f"--{_OPTION}" for each in typed):
            told = "a run that goes on has weights"
            raise SettingError(
                one_line(f"{_OPTION} must not be given with ckpt_path: {told}; got {given}.")
            )
        return None
    if given is None:
        return None
    if given == "":
        raise SettingError(f"{_OPTION} must name a model, or be last; got none.")
    target, run = run_or_file(given, run_name, str(root))
    return find_checkpoint(target, run, root, _OPTION)


def read_start(path: Path, settings: Namespace, named: Collection[str]) -> dict[str, Tensor]:
    """The weights of a file by the names that the model has for them, all that it has.

    Args:
        path: a checkpoint, or an exported model.
        settings: of the run that begins, which can be run.
        named: class paths that the user named.

    Raises:
        CheckpointError: naming the first weight that the model lacks, or has in another shape.
    """
    checkpoint = read_checked(path, is_fit=False, named=named)
    weights = {
        name.removeprefix(MODEL): weight
        for name, weight in checkpoint["state_dict"].items()
        if name.startswith(MODEL)
    }
    model, board_size = ModelSettings.of(settings.model.as_dict()), _board_size(checkpoint)
    try:
        _check_fit(weights, model)
    except ContentError as error:
        told = f"{name_of_model(path)} is no start for this model: {error}"
        with suppress(ContentError):
            _check_fit(weights, replace(model, vocab_size=num_tokens(board_size)))
            told += f"; such weights depend on the board, which was {board_size}×{board_size}"
            told += "; a model like that of the configuration any_board has none"
        raise CheckpointError(f"{told}.") from error
    return weights


def _check_fit(weights: Mapping[str, Tensor], settings: ModelSettings) -> None:
    """Raise ContentError unless these are the weights of such a model, by name and shape."""
    with torch.device("meta"):
        model = GameModel(settings)
    check_weights("model", dict(weights), model.state_dict())


def _board_size(checkpoint: Mapping[str, Any]) -> int:
    """That of the games that a model learned from, n."""
    games = checkpoint.get("datamodule_hyper_parameters", {})
    own = ModelSettings.of(checkpoint["hyper_parameters"]).vocab_size
    return int(games.get("board_size", board_size_of(own)))


def begun_from(path: Path, checkpoint: Mapping[str, Any]) -> Path | None:
    """The file that the checkpoint's run began with, which need not be there any more.

    Raises:
        CheckpointError: if that is no name.
    """
    found = checkpoint.get(_OPTION)
    if found is None:
        return None
    if type(found) is str and found.isprintable():
        return Path(found)
    raise CheckpointError(f"{path} cannot be used: {_OPTION} must be text, got {shown(found)}.")
