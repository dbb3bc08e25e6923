"""Faults of a configuration file that a YAML reader passes over or reports at length."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tessera.commands.fit.settings_text import UNREADABLE, SettingsTextError, check_settings_text
from tessera.commands.named_configs import config_file, names_in_words
from tessera.commands.one_line import one_line

SECTIONS = ("trainer", "model", "data", "monitor", "defragmentation")
_MAX_SIZE = 2**20  # bytes; the largest configuration here has a few thousand


class _Loader(yaml.SafeLoader):
    """Dates stay text, as in jsonargparse's reader."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)


def config_problems(argv: Sequence[str]) -> list[str]:
    """The first fault of each file of settings that a command line names, in a line each."""
    problems = []
    for option, value in _options(argv):
        problem = None
        if option == "config":
            path = config_file(value)
            problem = _reading_problem(path) if path else "must name a file, got none."
            if problem is None and (fault := _text_problem(Path(path).read_text("utf-8"))):
                problem = f"{path}{fault}"
        elif (option in SECTIONS or option.startswith("trainer.")) and _is_file(value):
            # jsonargparse takes the text of the file for the value, and says what is wrong in it.
            problem = _reading_problem(value)
        if problem is not None:
            problems.append(one_line(f"{option} {problem}"))
    return problems


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every option's name and value; the value is empty where there is none."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            yield option[2:], value if equals else following
        elif option == "-c":
            yield "config", value if equals else following
        elif option.startswith("-c"):
            yield "config", argument[2:]


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except OSError:  # settings by name may be too long for a name of a file
        return False


def _reading_problem(path: str) -> str | None:
    """Why a file is not to be read into memory as text."""
    file = Path(path)
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # it is read more than once
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            return f"{path} must be a file, got {kind}."
        size = found.st_size
        if size > _MAX_SIZE:
            return f"{path} must have at most {_MAX_SIZE:,} bytes, got {size:,}."
        file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return f"must be a file or one of {names_in_words()}, got {path}."
    except UnicodeDecodeError:
        return f"{path} must be UTF-8 text."
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    return None


def _text_problem(text: str) -> str | None:
    """The first fault of a text, worded to follow the file's name."""
    try:
        check_settings_text(text)
        root, settings = yaml.compose(text, _Loader), yaml.load(text, _Loader)
    except SettingsTextError as error:
        return f"{_at(error.line)}: {error}."
    except yaml.MarkedYAMLError as error:
        return _syntax_problem(error)
    except yaml.reader.ReaderError as error:
        return f" must be text; there is the character {error.character!r} in it."
    except yaml.YAMLError as error:
        return f" must be YAML: {' '.join(str(error).split())}."
    except (ValueError, LookupError):
        return f": {UNREADABLE}."
    if settings is None:
        return " must not be empty."
    if not isinstance(settings, dict):
        return " must hold settings by name, such as trainer: and data:."
    for name, line in _repeated(root, ""):
        return f"{_at(line)}: {name} is there twice; keep one of them."
    return next((f": {problem}" for problem in _misplaced(settings)), None)


def _misplaced(settings: dict[Any, Any]) -> Iterator[str]:
    """What cannot stand where it stands in the file."""
    if "config" in settings:
        yield "config cannot be set in a file; give --config twice on the command line."
    for section in SECTIONS:
        value = settings.get(section, {})
        if not isinstance(value, dict):
            got = "null" if value is None else value
            yield f"{section} must hold settings by name, got {got}."
    for names in (settings, *(settings.get(section, ()) for section in SECTIONS)):
        for name in names:
            if not isinstance(name, str):
                yield f"a setting's name must be text, got {name}."


def _syntax_problem(error: yaml.MarkedYAMLError) -> str:
    line = error.problem_mark.line + 1 if error.problem_mark else None
    problem = " ".join((error.problem or str(error)).split())
    if problem.startswith("but "):
        problem = f"{error.context}, {problem}"
    if "'\\t'" in problem:
        problem = "a tab; YAML must be indented with spaces"
    return f"{_at(line)}: {problem}."


def _at(line: int | None) -> str:
    return "" if line is None else f", line {line}"


def _repeated(node: yaml.Node, prefix: str) -> Iterator[tuple[str, int]]:
    """Settings that are named twice, and the line of the second; YAML would take it silently."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, prefix)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name in seen:
                yield name, key.start_mark.line + 1
            seen.add(name)
            yield from _repeated(value, f"{name}.")
