"""The models that are compared: configurations, read as ``tessera fit`` reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace

from tessera.commands.fit.config_file import config_problems
from tessera.commands.fit.earlier_options import upgraded_options
from tessera.commands.fit.lightning_cli import TesseraCLI
from tessera.data import GameDataModule
from tessera.model import ModelSettings
from tessera.model.settings import part_names
from tessera.setting_errors import SettingError, under

_JOINED = "+"
_USUAL = "uniform_9x9"  # what mixers are compared on where nothing is said


class Row(NamedTuple):
    """One of the models that are compared.

    Attributes:
        name: configurations, joined by +; the first in front of the others. Or a mixer.
        model: what it is made of.
        settings: all of them, as ``tessera fit`` would have them.
        defaults: the same, where nothing is set.
    """

    name: str
    model: ModelSettings
    settings: Namespace
    defaults: Namespace


def read_rows(
    names: Sequence[str],
    options: Sequence[str],
    configs: Sequence[str] = (),
    mixers: Sequence[str] = (),
) -> list[Row]:
    """The rows of these names.

    Args:
        names: as in ``Row``.
        options: of ``tessera fit``, for each of them.
        configs: configurations that are read behind those of a name.
        mixers: if there are any, a row for each of them; of several names, of each with each.

    Raises:
        SettingError: with a problem for everything that is wrong in a row.
        SystemExit: what the parser cannot read, once it has said so.
    """
    given = _given(names, configs, mixers)
    lines = dict.fromkeys(line for each in given.values() for line in config_problems(each))
    if lines:
        raise SettingError(*lines)
    reader, rows, problems = _Reader(["fit"]), list[Row](), list[str]()
    for name, own in given.items():
        mixer = own[-2:] if own[-2:-1] == ["--model.mixer"] else []
        settings = reader.read([*own[: len(own) - len(mixer)], *options, *mixer])
        try:
            rows.append(Row(name, _model(settings), settings, reader.defaults()))
        except SettingError as error:
            problems += [f"{name}: {problem}" for problem in error.args]
    if problems:
        raise SettingError(*problems)
    return rows


def _given(
    names: Sequence[str], configs: Sequence[str], mixers: Sequence[str]
) -> dict[str, list[str]]:
    """The arguments of every row, by its name; the mixer last, if it has one."""
    behind = [argument for config in configs for argument in ("--config", config)]
    bases = {name: [*_arguments(name), *behind] for name in names}
    if not bases:
        only = _JOINED.join(Path(config).stem for config in configs) or _USUAL
        bases = {only: behind or ["--config", _USUAL]}
    if not mixers:
        return bases
    found = dict.fromkeys(
        one for name in mixers for one in (part_names("mixer") if name == "all" else [name])
    )
    return {
        mixer if len(bases) == 1 else f"{name}/{mixer}": [*base, "--model.mixer", mixer]
        for name, base in bases.items()
        for mixer in found
    }


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

    def defaults(self) -> Namespace:
        """The settings of ``tessera fit`` where nothing is set."""
        return self._subcommand_parsers["fit"].get_defaults()

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Without a look at what is there to run on."""
        self.config = parser.parse_args(self.argv)

    def _set_seed(self) -> None:
        """No random number is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""
