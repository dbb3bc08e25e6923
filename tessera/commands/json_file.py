"""What ``--json FILE`` asks for: looked at before anything is computed, written at the end."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


def file_problems(name: str | None) -> list[str]:
    """Why ``--json FILE`` cannot be written, if it cannot."""
    if name is None:
        return []
    if not name:
        return ["--json must name a file, got none."]
    file = Path(name)
    try:
        is_there = file.exists()
        if not is_there and not file.parent.is_dir():
            return [f"--json: there is no folder {file.parent}."]
    except OSError as error:  # a name that is too long, a folder that cannot be looked into
        return [f"--json: {file}: {error.strerror}."]
    places = [file] if is_there else []
    places += [_target(file).parent] if _is_replaced(file) else []
    if file.is_dir() or not all(os.access(place, os.W_OK) for place in places):
        return [f"--json: {file} cannot be written."]
    return []


def write_json(name: str | None, content: Any) -> None:
    """Write what ``--json FILE`` asks for, if it was given; the file is the old or the new, whole.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    if name is None:
        return
    file = Path(name)
    try:
        if not _is_replaced(file):
            file.write_text(json_text(content))
            return
        beside = _target(file).with_name(f".{os.getpid()}.json")
        try:
            beside.write_text(json_text(content))
            os.replace(beside, _target(file))
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        error.filename = name  # a full disk does not say which file it is about
        raise


def json_text(content: Any) -> str:
    """The content as JSON, with a line end."""
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The same with every number that is none in letters, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _target(file: Path) -> Path:
    """The file that a link leads to, or the link itself would be replaced."""
    return Path(os.path.realpath(file))


def _is_replaced(file: Path) -> bool:
    """Whether a new file takes this one's place; a device or a pipe is written into instead."""
    return file.is_file() or not file.exists()
