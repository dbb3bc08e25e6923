"""Options that had other names in earlier versions, or that there are no more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from tessera.commands.fit.parser import MODE
from tessera.training.earlier import EARLIER, upgraded_settings


def upgraded_options(argv: Sequence[str]) -> list[str]:
    """A command line by today's names, such as ``--model.mamba.d_state`` for ``--model.d_state``.

    Args:
        argv: as it was typed; ``--name value`` and ``--name=value``.
    """
    options = list(_options(argv))
    mixers = [value for option, value, _ in options if option == "--model.mixer"]
    chosen = {"mixer": mixers[-1]} if mixers else {}
    arguments: list[str] = []
    for option, value, typed in options:
        name = option.removeprefix("--model.")
        if option != name and name in EARLIER:
            settings = upgraded_settings({name: value, **chosen})
            arguments += [
                f"--model.{part}.{name}={own[name]}"
                for part, own in settings.items()
                if isinstance(own, dict)
            ]
        elif option == "--model" and (settings := _earlier(value)):
            arguments.append(f"--model={json.dumps(upgraded_settings({**chosen, **settings}))}")
        else:
            arguments += typed
    return arguments


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Every option of the model, its value, and both as typed; of all else the argument alone."""
    arguments = iter(argv)
    for argument in arguments:
        option, equals, value = argument.partition("=")
        is_of_model = option == "--model" or option.startswith("--model.")
        following = [*islice(arguments, 1)] if is_of_model and not equals else []
        yield option, "".join(following) or value, [argument, *following]


def _earlier(text: str) -> dict[str, Any]:
    """The settings in what ``--model`` is given, a text or a file; none if all are today's."""
    try:
        settings = get_loader(MODE)(Path(text).read_text() if Path(text).is_file() else text)
    except (OSError, TypeError, ValueError, yaml.YAMLError):  # said where it is parsed
        return {}
    is_earlier = isinstance(settings, dict) and not settings.keys().isdisjoint(EARLIER)
    return settings if is_earlier else {}
