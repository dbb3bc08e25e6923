"""Options that had other names before the parts of a model were exchangeable."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.training.earlier import OF_THE_MIXER, upgraded_settings


def upgraded_options(argv: Sequence[str]) -> list[str]:
    """A command line by today's names, such as ``--model.mamba.d_state`` for ``--model.d_state``.

    Args:
        argv: as it was typed; ``--name value`` and ``--name=value``.
    """
    kept: list[str] = []
    given: dict[str, str] = {}
    arguments = iter(argv)
    for argument in arguments:
        option, equals, value = argument.partition("=")
        name = option.removeprefix("--model.")
        if option != name and name in OF_THE_MIXER:
            given[name] = value if equals else next(arguments, "")
            continue
        kept.append(argument)
        if option == "--model.mixer":
            kept += [] if equals else [value := next(arguments, "")]
            given["mixer"] = value
    mixer = given.pop("mixer", None)
    if not given:
        return list(argv)
    settings = upgraded_settings({**given, **({} if mixer is None else {"mixer": mixer})})
    for part, values in settings.items():
        if isinstance(values, dict):
            kept += [f"--model.{part}.{name}={value}" for name, value in values.items()]
    return kept
