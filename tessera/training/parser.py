"""A command line parser that says what is wrong in one line and takes no abbreviations."""

from __future__ import annotations

import difflib
import re
import sys
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
}


class TesseraParser(LightningArgumentParser):
    """Ends with one line and exit code 2 for a mistake of the user's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, allow_abbrev=False)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the mistake in the words of the YAML file, and exit."""
        print(f"tessera: {in_one_line(message, self._names())}", file=sys.stderr)
        raise SystemExit(2)

    def _names(self) -> list[str]:
        """All settings, of all commands."""
        names: list[str] = []
        for action in self._actions:
            names.append(action.dest)
            # A command's own parser is a choice of the action that holds the commands.
            if isinstance(action.choices, dict):
                for parser in action.choices.values():
                    names += parser._names() if isinstance(parser, TesseraParser) else []
        return names


def in_one_line(message: str, names: list[str]) -> str:
    """The parser's message in one line: the setting, its value, what is allowed.

    Args:
        message: of jsonargparse or argparse.
        names: settings that there are, to suggest one for a misspelt name.
    """
    if match := re.search(
        r"does not accept option '([^']+)'|Key '([^']+)' is not expected", message
    ):
        return _unknown(match[1] or match[2], "", names)
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        name = match[1].partition("=")[0]
        is_option = name.startswith("-")
        return _unknown(name.lstrip("-"), "--" if is_option else "", names)
    if match := re.match(r'Parser key "([^"]+)":', message):
        value = re.search(r"(?:Given value|Got value): (.*)", message)
        if value:
            return f"{match[1]} must be {_allowed(message)}, got {value[1].strip()}."
    return f"{' '.join(message.split()).rstrip('.')}."


def _unknown(name: str, dashes: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean {dashes}{close[0]}?" if close else ""
    return f"{dashes}{name} is no setting.{hint}"


def _allowed(message: str) -> str:
    """What jsonargparse says is allowed, in words."""
    kinds = re.search(r"Subtypes: \[(.*)\]|Expected an? (.*?)(?:\. Got value|\n|$)", message)
    if kinds is None:
        return "another value"
    text = kinds[1] or kinds[2]
    text = re.sub(r"typing\.Literal\[([^\]]*)\]", r"one of \1", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", lambda match: _WORDS.get(match[1], match[1]), text)
    return text.replace("'", "").replace(", null", " or null")
