"""A trained model as commands use it that follow one game: read from a checkpoint, on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from tessera.commands.one_line import one_line
from tessera.data import GameDataModule
from tessera.go import Rules
from tessera.model import GameModel
from tessera.play.session import Session
from tessera.setting_errors import SettingError
from tessera.training.checkpoint_content import check_content, on_any_machine
from tessera.training.checkpoint_file import read_checkpoint
from tessera.training.module import TesseraModule
from tessera.training.resume import settings_of
from tessera.training.run_folder import RunFolder, find_checkpoint


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model and the games that it was trained on.

    Attributes:
        path: its checkpoint.
        model: in evaluation, on ``device``.
        board_size: n.
        rules: those of its games.
        context: tokens that it reads at once; None for whole games.
        device: where it is.
    """

    path: Path
    model: GameModel
    board_size: int
    rules: Rules
    context: int | None
    device: torch.device

    def session(self) -> Session:
        """A new game that the model follows."""
        return Session(self.model, self.board_size, self.rules, self.context, self.device)


def open_model(ckpt_path: str, run_name: str, device: torch.device) -> OpenedModel:
    """The model of a checkpoint, with the code that suits this machine.

    Args:
        ckpt_path: a file, or ``last`` for the newest of the runs of that name.
        run_name: the run's name.
        device: where it will be.

    Raises:
        SettingError: if a name is none.
        CheckpointError: if there is no such checkpoint, or it cannot be used.
    """
    RunFolder(run_name, 0)  # refuses a name that is none
    if not ckpt_path:
        raise SettingError("ckpt_path must name the model, or be last; got none.")
    if not ckpt_path.isprintable():
        raise SettingError(one_line(f"ckpt_path must be a file, got {ckpt_path}."))
    path = find_checkpoint(ckpt_path, run_name)
    checkpoint = read_checkpoint(path)
    check_content(path, checkpoint, is_fit=False)
    module = TesseraModule(**on_any_machine(checkpoint["hyper_parameters"]))
    module.load_state_dict(checkpoint["state_dict"])
    given = {
        name.removeprefix("data."): value
        for name, value in settings_of(checkpoint).items()
        if name.startswith("data.")
    }
    games = GameDataModule(**{**given, "backend": "auto"}).settings
    rules = games.rules
    assert isinstance(rules, Rules)
    model = module.model.to(device).eval().requires_grad_(False)
    return OpenedModel(path, model, games.board_size, rules, games.context, device)
