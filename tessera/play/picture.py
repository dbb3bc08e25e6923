"""Pictures of a position: the stones, and maps of what may be played next.

Drawn with Pillow three times too large and scaled down, which smooths stones and letters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tessera.vocabulary import Vocabulary

_OVERSIZE = 3
_CELL = 26 * _OVERSIZE  # one point, in pixels before scaling down
_TITLE = 30 * _OVERSIZE
_WOOD, _PAPER, _INK = (222, 184, 120), (250, 248, 244), (30, 28, 26)
_BLACK, _WHITE, _MARK = (24, 24, 26), (246, 246, 242), (214, 60, 40)
_HEAT = (176, 24, 84)
_LABEL_ABOVE = 0.02  # likelier points are labelled, in percent


@dataclass(frozen=True, slots=True)
class Scene:
    """A position and what may follow.

    Attributes:
        stones: (n, n) int: +1 black, -1 white, 0 empty.
        last_move: its token, None at the start.
        ply: plies played.
        maps: by title, the probabilities (V,) or (n² + 1,) of tokens: points, then PASS, PAD, EOS.
    """

    stones: Tensor
    last_move: int | None
    ply: int
    maps: dict[str, Tensor]


def draw_scenes(scenes: list[Scene]) -> Tensor:
    """A picture with a row for each position: the board, then its maps on one common scale.

    A map's darkest point is the likeliest one of its row; its title says how likely a pass is.

    Returns:
        (3, height, width) uint8 on the CPU, red, green, blue.
    """
    rows = []
    for scene in scenes:
        panels = [_panel(scene, f"after {scene.ply} plies", None, 1.0)]
        num_points = scene.stones.numel()
        highest = max((float(m[:num_points].max()) for m in scene.maps.values()), default=1.0)
        for title, probabilities in scene.maps.items():
            panels.append(_panel(scene, title, probabilities.float().cpu(), max(highest, 1e-9)))
        rows.append(np.concatenate([np.asarray(panel) for panel in panels], axis=1))
    return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1).contiguous()


def _panel(scene: Scene, title: str, chances: Tensor | None, highest: float) -> Image.Image:
    size = scene.stones.shape[0]
    side = (size + 1) * _CELL
    image = Image.new("RGB", (side, side + _TITLE), _PAPER)
    pen = ImageDraw.Draw(image)
    _draw_board(pen, size)
    if chances is not None:
        _draw_heat(pen, size, chances, highest, scene.stones)
        title += f": pass {100 * float(chances[size**2]):.1f} %"
    for row, column in scene.stones.nonzero().tolist():
        _disc(pen, row, column, 0.45, _INK)
        _disc(pen, row, column, 0.42, _BLACK if scene.stones[row, column] > 0 else _WHITE)
    if scene.last_move is not None and scene.last_move < size**2:
        row, column = divmod(scene.last_move, size)
        _disc(pen, row, column, 0.16, _MARK)
    pen.text((side / 2, _TITLE * 0.6), title, _INK, _font(0.62), "mm")
    return image.resize((image.width // _OVERSIZE, image.height // _OVERSIZE), Image.Resampling.BOX)


def _draw_board(pen: ImageDraw.ImageDraw, size: int) -> None:
    low, high = _CELL, size * _CELL
    margin = 0.55 * _CELL
    corners = (low - margin, _TITLE + low - margin, high + margin, _TITLE + high + margin)
    pen.rectangle(corners, _WOOD)
    for at in range(low, high + 1, _CELL):
        pen.line((low, _TITLE + at, high, _TITLE + at), _INK, _OVERSIZE)
        pen.line((at, _TITLE + low, at, _TITLE + high), _INK, _OVERSIZE)
    for row in _star_lines(size):
        for column in _star_lines(size):
            _disc(pen, row, column, 0.09, _INK)
    vocabulary = Vocabulary(size)
    for index in range(size):
        letter = vocabulary.vertex(index)[0]
        number = vocabulary.vertex(index * size)[1:]
        at = (index + 1) * _CELL
        pen.text((at, _TITLE + 0.22 * _CELL), letter, _INK, _font(0.36), "mm")
        pen.text((0.22 * _CELL, _TITLE + at), number, _INK, _font(0.36), "mm")


def _draw_heat(
    pen: ImageDraw.ImageDraw, size: int, chances: Tensor, highest: float, stones: Tensor
) -> None:
    for point, chance in enumerate(chances[: size**2].tolist()):
        # The square root shows small probabilities, of which there are many.
        strength = min(1.0, chance / highest) ** 0.5
        if strength < 0.05:
            continue
        row, column = divmod(point, size)
        if not stones[row, column]:
            colour = tuple(
                round(wood + strength * (heat - wood))
                for wood, heat in zip(_WOOD, _HEAT, strict=True)
            )
            # Small discs leave the lines of the board to be seen.
            _disc(pen, row, column, 0.18 + 0.3 * strength, colour)
            if chance >= _LABEL_ABOVE and strength > 0.25:
                ink = _WHITE if strength > 0.5 else _INK
                at = ((column + 1) * _CELL, _TITLE + (row + 1) * _CELL)
                pen.text(at, f"{100 * chance:.0f}", ink, _font(0.45), "mm")
        elif chance >= _LABEL_ABOVE / 2:
            # Probability on a stone is a mistake: it is shown around the stone.
            _disc(pen, row, column, 0.5, _HEAT)


def _disc(
    pen: ImageDraw.ImageDraw, row: int, column: int, radius: float, colour: tuple[int, ...]
) -> None:
    """A disc on a point; the radius is in cells."""
    x, y, r = (column + 1) * _CELL, _TITLE + (row + 1) * _CELL, radius * _CELL
    pen.ellipse((x - r, y - r, x + r, y + r), colour)


def _font(height: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; the height is in cells."""
    return ImageFont.load_default(size=height * _CELL)


def _star_lines(size: int) -> tuple[int, ...]:
    """Rows and columns of the star points."""
    if size < 7:
        return ()
    edge = 2 if size < 12 else 3
    return (edge, size // 2, size - 1 - edge) if size % 2 else (edge, size - 1 - edge)
