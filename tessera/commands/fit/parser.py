"""A command line parser that says what is wrong in one line and takes no abbreviations."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from tessera.commands.ending import say
from tessera.commands.fit.settings_text import UNREADABLE, SettingsTextError, check_settings_text
from tessera.commands.named_configs import with_config_files
from tessera.commands.one_line import one_line
from tessera.training.earlier import upgraded_settings

MODE = "tessera"  # jsonargparse's name for a way to read values and files
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
}
_YAML = {"None": "null", "True": "true", "False": "false", "": "nothing"}  # as a person wrote it


class TesseraParser(LightningArgumentParser):
    """Ends with one line and exit code 2 for a mistake of the user's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"parser_mode": MODE, **kwargs}, allow_abbrev=False)

    def parse_args(self, args: Sequence[str], **kwargs: Any) -> Namespace:  # type: ignore[override]
        """As jsonargparse, but a configuration may be given by its name."""
        return super().parse_args(with_config_files(args), **kwargs)

    def validate(self, namespace: Namespace, skip_unset: bool = True, **kwargs: Any) -> None:
        """As jsonargparse, but null is a value: only what may be null can be set to null.

        Raises:
            TypeError: if so, or if a section or a part within one is no settings by name.
        """
        super().validate(namespace, False, **kwargs)
        for name in self.groups or {}:
            value = namespace.get(name, Namespace())
            if not isinstance(value, Namespace):
                raise TypeError(f'Parser key "{name}": Expected a dict. Got value: {value}')

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the mistake in the words of the YAML file, and exit.

        Raises:
            argparse.ArgumentError: in the parser of one value, such as a callback's settings; the
                parser around it knows the value's name.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        raise SystemExit(say(one_line(in_one_line(message, self._names())), 2))

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
    """The parser's message in a sentence: the setting, its value, what is allowed.

    Args:
        message: of jsonargparse or argparse.
        names: settings that there are, to suggest one for a misspelt name.
    """
    if match := re.search(
        r"does not accept option '([^']+)'|Key '([^']+)' is not expected"
        r"|^Option '([^']+)' is not accepted",
        message,
    ):
        return _unknown(match[1] or match[2] or match[3], "", names)
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        name = match[1].partition("=")[0]
        is_option = name.startswith("-")
        return _unknown(name.lstrip("-"), "--" if is_option else "", names)
    if match := re.match(r'Parser key "([^"]+)":(.*)', message, re.DOTALL):
        return _wrong_value(match[1], match[2])
    return _sentence(message)


def said_by_a_class(error: Exception) -> str:
    """What a class that the user named says of its arguments, out of what jsonargparse says."""
    text = str(error)
    if match := re.search(r"Errors:\s+- (.*?)(?:\n\s*- |\Z)", text, re.DOTALL):
        text = match[1]
    if match := re.search(r"Problem with given class_path '(?:\w+\.)*(\w+)':(.*)", text, re.DOTALL):
        text = f"{match[1]}: {match[2]}"
    return _sentence(text)


def _wrong_value(name: str, problem: str) -> str:
    """What is wrong with the value of a setting, of a section, or of a part that it describes."""
    if match := re.search(
        r"Problem with given class_path '(?:\w+\.)*(\w+)':\n((\s+).*(?:\n\3.*)*)", problem
    ):
        inner = re.sub(rf"^{match[3]}", "", match[2], flags=re.MULTILINE)
        return f"{name}: {match[1]}: {in_one_line(inner, [])}"
    if match := re.search(r"Unable to load config '(.*?)'\n(.*)", problem, re.DOTALL):
        if nested := re.search(r'Parser key "[^"]+":\n.*', match[2], re.DOTALL):
            return in_one_line(nested[0], [])
        return f"{name} must be settings by name, or a file of them, got {match[1] or 'nothing'}."
    if value := re.search(r"(?:Given value|Got value): (.*)", problem):
        got = value[1].strip()
        return f"{name} must be {_allowed(problem)}, got {_YAML.get(got, got)}."
    return f"{name}: {_sentence(problem)}"


def _sentence(message: str) -> str:
    return f"{' '.join(message.split()).rstrip('.')}."


def _unknown(name: str, dashes: str, names: list[str]) -> str:
    sections = {other.rpartition(".")[0] for other in names}
    close = difflib.get_close_matches(name, set(names) - sections - {name}, 1)
    hint = f" Did you mean {dashes}{close[0]}?" if close else ""
    return f"{dashes}{name} is no setting.{hint}"


def _allowed(problem: str) -> str:
    """What jsonargparse says is allowed, in words."""
    kinds = re.search(r"Subtypes: \[(.*)\]", problem) or re.search(
        r"Expected an? (.*?)(?:\. Got value|\n|$)", problem
    )
    if kinds is None:
        return "another value"
    text = re.sub(r"typing\.Literal\[([^\]]*)\]", r"one of \1", kinds[1])
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", lambda match: _WORDS.get(match[1], match[1]), text)
    text = re.sub(r"(?:\w+\.)*(?:list|Iterable)\[(?:\w+\.)*(\w+)\]", r"a list of \1", text)
    text = "settings by name" if text == "dict" else text
    return text.replace("'", "").replace(", null", " or null")


def _load(text: str) -> Any:
    """A value or a file, read by jsonargparse's YAML reader once nothing in it is boundless.

    Raises:
        SettingsTextError: if the text can be no settings.
        yaml.YAMLError: if it is no YAML.
    """
    check_settings_text(text)
    try:
        value = _load_yaml(text)
    except (ValueError, LookupError, AttributeError) as error:
        raise SettingsTextError(UNREADABLE) from error
    if isinstance(value, dict) and isinstance(value.get("model"), dict):  # a configuration
        return {**value, "model": upgraded_settings(value["model"])}
    return value


_load_yaml = get_loader("yaml")
set_loader(MODE, _load, (yaml.YAMLError,))
