"""YAML that a person wrote: refused where it is legal YAML and could be no settings."""

from __future__ import annotations

import yaml

_MAX_DEPTH = 20  # a callback's settings are the deepest, at 6
_MAX_VALUES = 5_000  # names and values with every alias written out


# PyYAML's own exceptions for what looks like a number and is none, such as 0b_.
UNREADABLE = "a value that cannot be read: a number without digits, or with thousands of them"


class SettingsTextError(TypeError):
    """A text that is no settings; jsonargparse reports a TypeError as the fault of a value.

    Args:
        problem: what is wrong, without the text's name.
        line: the line of it, counted from 1; None if it belongs to no line.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


def check_settings_text(text: str) -> None:
    """Read a text without building anything of it, in time and memory of its own size.

    Raises:
        SettingsTextError: if it is nested too deep, stands for too many values once its
            aliases are written out (nine times nine times … nine of them are nine lines), or holds
            itself.
        yaml.YAMLError: if it is no YAML.
    """
    total = 0
    sizes: dict[str | None, int] = {}  # of what an anchor names, itself counted
    started: list[tuple[str | None, int]] = []
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                if any(anchor == event.anchor for anchor, _ in started):
                    raise SettingsTextError(f"YAML with &{event.anchor} inside itself", line)
                total += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
                sizes[event.anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                started.append((event.anchor, total))
                total += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = started.pop()
                sizes[anchor] = total - before
            if len(started) > _MAX_DEPTH:
                raise SettingsTextError(f"YAML nested more than {_MAX_DEPTH} levels deep", line)
            if total > _MAX_VALUES:
                raise SettingsTextError(f"YAML with more than {_MAX_VALUES:,} values", line)
    except (ValueError, OverflowError) as error:
        # PyYAML's own, for example for the escape "\U00110000", which is no character.
        raise SettingsTextError(f"YAML that cannot be read: {error}") from error
