"""What ``--json FILE`` asks for."""

from __future__ import annotations

import json
import math
from typing import Any

from tessera.commands.output_file import file_problems, write_file

__all__ = ["file_problems", "json_text", "write_json"]


def write_json(name: str | None, content: Any) -> None:
    """Write what ``--json FILE`` asks for, if it was given; the file is the old or the new, whole.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    if name is not None:
        write_file(name, json_text(content).encode())


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
