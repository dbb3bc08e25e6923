"""Faults of a configuration file that a YAML reader passes over or reports at length."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

_SECTIONS = ("trainer", "model", "data")


def config_files(argv: Sequence[str]) -> list[str]:
    """The files that ``--config`` or ``-c`` name on a command line, in order."""
    files = []
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c"):
            files.append(value if equals else following)
    return files


def config_problem(path: str) -> str | None:
    """The first fault of a file in one line, None if it can be read as settings by name."""
    file = Path(path)
    if not path:
        return "config must name a file, got none."
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # it is read more than once
            kind = "a folder" if file.is_dir() else "a pipe or a device"
            return f"config {path} must be a file, got {kind}."
        root = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
    except FileNotFoundError:
        return f"config {path} must be a file; there is none of that name."
    except OSError as error:
        return f"config {path} cannot be read: {error.strerror}."
    except UnicodeDecodeError:
        return f"config {path} must be UTF-8 text."
    except yaml.MarkedYAMLError as error:
        return _syntax_problem(path, error)
    except yaml.YAMLError as error:
        return f"config {path} must be YAML: {' '.join(str(error).split())}."
    if root is None:
        return f"config {path} must not be empty."
    if not isinstance(root, yaml.MappingNode):
        return f"config {path} must hold settings by name, such as trainer: and data:."
    for key, value in root.value:
        if key.value in _SECTIONS and not isinstance(value, yaml.MappingNode):
            return f"config {path}: {key.value} must hold settings by name, got {value.value}."
    for name, line in _repeated(root, ""):
        return f"config {path}, line {line}: {name} is there twice; keep one of them."
    return None


def _syntax_problem(path: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f", line {mark.line + 1}" if mark else ""
    problem = " ".join((error.problem or str(error)).split())
    if "'\\t'" in problem:
        return f"config {path}{where}: a tab; YAML must be indented with spaces."
    return f"config {path}{where}: {problem}."


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
