"""What ``--json FILE`` asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from tessera.commands.output_file import file_problems, write_file

STANDARD_OUTPUT = "-"


def json_problems(name: str | None) -> list[str]:
    """Why what ``--json FILE`` asks for cannot be written, if it was given and cannot."""
    return [] if name == STANDARD_OUTPUT else file_problems(name)


def tell(lines: Iterable[str], name: str | None, content: Any) -> None:
    """Print a report, and write what ``--json FILE`` asks for; for ``-`` print that alone.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    if name == STANDARD_OUTPUT:
        print(json_text(content), end="")
        return
    print("\n".join(lines))
    write_json(name, content)


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
