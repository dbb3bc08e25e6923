"""The models that are compared: configurations, read as ``tessera fit`` reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from jsonargparse import Namespace

from tessera.commands.fit.config_file import config_problems
from tessera.commands.fit.earlier_options import upgraded_options
from tessera.commands.fit.lightning_cli import TesseraCLI
from tessera.data import GameDataModule
from tessera.model import ModelSettings
from tessera.setting_errors import SettingError, under

_JOINED = "+"


class Row(NamedTuple):
    """One of the models that are compared.

    Attributes:
        name: configurations, joined by +; the first in front of the others.
        model: what it is made of.
    """

    name: str
    model: ModelSettings


def read_rows(names: Sequence[str], options: Sequence[str]) -> list[Row]:
    """The rows of these names.

    Args:
        names: as in ``Row``.
        options: of ``tessera fit``, for each of them.

    Raises:
        SettingError: with a problem for everything that is wrong in a row.
        SystemExit: what the parser cannot read, once it has said so.
    """
    given = {name: _arguments(name) for name in dict.fromkeys(names)}
    lines = dict.fromkeys(line for each in given.values() for line in config_problems(each))
    if lines:
        raise SettingError(*lines)
    reader, rows, problems = _Reader(["fit"]), list[Row](), list[str]()
    for name in names:
        settings = reader.read([*given[name], *options])
        try:
            rows.append(Row(name, _model(settings)))
        except SettingError as error:
            problems += [f"{name}: {problem}" for problem in error.args]
    if problems:
        raise SettingError(*problems)
    return rows


def _arguments(name: str) -> list[str]:
    # A file may have the sign in its name.
    configs = [name] if os.path.isfile(name) else name.split(_JOINED)
    return [argument for config in configs for argument in ("--config", config)]


def _model(settings: Namespace) -> ModelSettings:
    with under("data"):
        GameDataModule(**settings.data)
    model = ModelSettings.of(settings.model.as_dict())
    with under("model"):
        model.check()
    return model


class _Reader(TesseraCLI):
    """Reads settings as every command does, builds nothing and runs nothing."""

    def read(self, arguments: Sequence[str]) -> Namespace:
        """The settings that ``tessera fit`` would have with these arguments."""
        return self.parser.parse_args(["fit", *upgraded_options(arguments)])["fit"]

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Without a look at what is there to run on."""
        self.config = parser.parse_args(self.argv)

    def _set_seed(self) -> None:
        """No random number is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""
