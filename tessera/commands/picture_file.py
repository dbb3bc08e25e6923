"""A picture that an option asks for: as PNG or as SVG, by the end of the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tessera.commands.output_file import file_problems

if TYPE_CHECKING:
    from tessera.play.shapes import Drawing

_ENDS = (".png", ".svg")


def picture_problems(name: str | None, option: str) -> list[str]:
    """Why the option's picture cannot be written, if it was given and cannot."""
    if name and _end(name) not in _ENDS:
        return [f"{option} must end in .png or .svg, got {name}."]
    return file_problems(name, option)


def picture_file(drawing: Drawing, name: str) -> bytes:
    """What goes into the file."""
    # Here, so that a wrong argument is found before Pillow is loaded.
    from tessera.play.pixels import png
    from tessera.play.svg import svg

    return svg(drawing) if _end(name) == ".svg" else png(drawing)


def _end(name: str) -> str:
    return Path(name).suffix.lower()
