"""Settings of a part that the model is not made of: typed, and without effect."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from tessera.commands.ending import is_first_process, say
from tessera.commands.one_line import one_line
from tessera.model import ModelSettings
from tessera.model.parts import PartSettings
from tessera.training.objectives import OBJECTIVES

_PARTS = {f.name for f in fields(ModelSettings) if isinstance(f.default, PartSettings)}


def say_unchosen(argv: Sequence[str], model: Mapping[str, Any]) -> None:
    """Say in a line which settings that were typed are of parts that are not chosen.

    Those of files are not looked at: a configuration that is read later chooses another part, and
    what stands of the one before it is nobody's mistake.

    Args:
        argv: as it was typed.
        model: its settings, whole.
    """
    if not is_first_process():
        return
    chosen, objective = ModelSettings.of(model).parts(), model["objective"]
    of_parts = _typed(argv, _PARTS - {*chosen})
    if of_parts:
        has = f"which has {', '.join(chosen)}"
        say(one_line(f"{of_parts} does nothing: it is of no part of the model, {has}."), 0)
    if of_others := _typed(argv, OBJECTIVES.keys() - {objective}):
        say(one_line(f"{of_others} does nothing: the objective is {objective}."), 0)


def _typed(argv: Sequence[str], parts: Collection[str]) -> str:
    """The settings of these parts that were typed, each once, with commas between them."""
    names = (argument.partition("=")[0] for argument in argv)
    places = ((name, name.split(".")) for name in names)
    found = (name for name, at in places if at[0] == "--model" and at[1:] and at[1] in parts)
    return ", ".join(dict.fromkeys(found))
