"""Settings of a part that the model is not made of: typed, and without effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from tessera.commands.ending import is_first_process, say
from tessera.commands.one_line import one_line
from tessera.model import ModelSettings
from tessera.model.parts import PartSettings

_PARTS = {f.name for f in fields(ModelSettings) if isinstance(f.default, PartSettings)}


def say_unchosen(argv: Sequence[str], model: Mapping[str, Any]) -> None:
    """Say in a line which settings that were typed are of parts that are not chosen.

    Those of files are not looked at: a configuration that is read later chooses another part, and
    what stands of the one before it is nobody's mistake.

    Args:
        argv: as it was typed.
        model: its settings, whole.
    """
    chosen = ModelSettings.of(model).parts()
    typed = (argument.partition("=")[0].split(".") for argument in argv)
    names = dict.fromkeys(
        ".".join(name)
        for name in typed
        if name[0] == "--model" and name[1:] and name[1] in _PARTS and name[1] not in chosen
    )
    if names and is_first_process():
        has = f"which has {', '.join(chosen)}"
        say(one_line(f"{', '.join(names)} does nothing: it is of no part of the model, {has}."), 0)
