"""A file that an option asks for: looked at before anything is computed, written at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_MODELS = (".ckpt", ".safetensors")  # how the names of checkpoints and exported models end


def file_problems(name: str | None, option: str = "--json", is_model: bool = False) -> list[str]:
    """Why the option's file cannot be written, if it was given and cannot.

    Args:
        name: of the file, None if it was not given.
        option: that names it.
        is_model: whether a model is written. Nothing else takes a model's place.
    """
    if name is None:
        return []
    if not name:
        return [f"{option} must name a file, got none."]
    file = Path(name)
    try:
        is_there = file.exists()
        if not is_there and not file.parent.is_dir():
            return [f"{option}: there is no folder {file.parent}."]
    except OSError as error:  # a name that is too long, a folder that cannot be looked into
        return [f"{option}: {file}: {error.strerror}."]
    if not is_model and _target(file).suffix in _MODELS:
        return [f"{option} must be no model's file, got {name}."]
    places = [file] if is_there else []
    places += [_target(file).parent] if _is_replaced(file) else []
    if file.is_dir() or not all(os.access(place, os.W_OK) for place in places):
        return [f"{option}: {file} cannot be written."]
    return []


def same_file_problems(files: Iterable[tuple[str, str | None]]) -> list[str]:
    """Why several options cannot each have their file: two of them name one.

    Args:
        files: options and what they name, None if they were not given; what is read comes first.
    """
    names: dict[str, str] = {}
    problems = []
    for option, name in files:
        if name and name != "-":
            other = names.setdefault(os.path.realpath(name), option)
            if other != option:
                problems.append(f"{option} must be another file than {other}, got {name}.")
    return problems


def folder_problems(name: str | None, option: str) -> list[str]:
    """Why files cannot be written into the option's folder, which is made if it is not there."""
    if name is None:
        return []
    if not name:
        return [f"{option} must name a folder, got none."]
    folder = Path(name)
    try:
        if folder.exists() and not folder.is_dir():
            return [f"{option} must name a folder; {name} is a file."]
        place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    except OSError as error:  # a name that is too long, a folder that cannot be looked into
        return [f"{option}: {folder}: {error.strerror}."]
    if not place.is_dir():
        return [f"{option} must name a folder; {place} is a file."]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"{option}: {place} cannot be written into."]
    return []


def write_file(name: str, content: bytes) -> None:
    """Write the file; it is the old or the new, whole.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    file = Path(name)
    try:
        if not _is_replaced(file):
            file.write_bytes(content)
            return
        beside = _target(file).with_name(f".{os.getpid()}{file.suffix}")
        try:
            beside.write_bytes(content)
            os.replace(beside, _target(file))
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        error.filename = name  # a full disk does not say which file it is about
        raise


def _target(file: Path) -> Path:
    """The file that a link leads to, or the link itself would be replaced."""
    return Path(os.path.realpath(file))


def _is_replaced(file: Path) -> bool:
    """Whether a new file takes this one's place; a device or a pipe is written into instead."""
    return file.is_file() or not file.exists()
