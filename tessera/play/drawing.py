"""What a picture of a position consists of: simple shapes, which Pillow or an SVG file draws.

Nothing is said by colour alone. Likelier points have darker and larger discs of one hue, illegal
points a cross, settled points a grey square, the last move a ring.

The shapes themselves, and what their lengths mean, are in ``shapes.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

from tessera.play.shapes import INK, Box, Colour, Disc, Drawing, Line, Point, Shape, Words
from tessera.vocabulary import Vocabulary

_WOOD: Colour = (226, 190, 128)
_SETTLED: Colour = (196, 192, 186)
_STONES: dict[int, Colour] = {1: (24, 24, 26), -1: (248, 248, 244)}
_SETTLED_STONES: dict[int, Colour] = {1: (104, 102, 100), -1: (226, 224, 220)}
_UNLIKELY: Colour = (190, 212, 240)  # blue is seen on wood by every kind of eye
_LIKELY: Colour = (8, 48, 112)
_LOST: Colour = (0, 92, 214)
_RIM: Colour = (128, 126, 122)

_LEAST_STRENGTH = 0.05  # of a disc that is drawn
_LEAST_LOST = 0.01  # of a ring
_MOST_LABELS = 10  # of points below a percent
_LEAST_LABEL = 0.0005
_LEAST_OWNER = 0.05  # of a square that is drawn: 52.5 % of the playouts


@dataclass(frozen=True, slots=True)
class Scene:
    """A position and what may follow.

    Attributes:
        stones: (n, n) int: +1 black, -1 white, 0 empty.
        last_move: its token, None at the start.
        ply: plies played.
        maps: by title, the probabilities (V,) or (n² + 1,) of tokens: points, then PASS, PAD, EOS.
        legal: (n² + 1,) bool, True where a move is legal; None if nobody has looked.
        settled: (n, n) int: +1 black's, -1 white's, 0 neither's; None if nobody has looked.
    """

    stones: Tensor
    last_move: int | None
    ply: int
    maps: dict[str, Tensor] = field(default_factory=dict)
    legal: Tensor | None = None
    settled: Tensor | None = None


class BoardDrawing:
    """The shapes of one board, without a title.

    Args:
        scene: what stands on it.
        cell: the distance of two lines; a board has n + 1 of them on each side.
        top: how far below the picture's upper edge it begins.
        chances: (n² + 1,) or more, the map; None for a board alone.
        highest: the chance that is drawn darkest.
        ownership: (n, n), 1 where a point will be black's, -1 where white's; None if it is not
            shown.
    """

    def __init__(
        self,
        scene: Scene,
        cell: float,
        top: float,
        chances: Tensor | None = None,
        highest: float = 1.0,
        ownership: Tensor | None = None,
    ) -> None:
        self.scene, self.cell, self.top = scene, cell, top
        self.size = scene.stones.shape[0]
        self._vocabulary = Vocabulary(self.size)
        self._stones: list[int] = scene.stones.flatten().tolist()
        points = self.size**2
        self._chances: list[float] | None = None if chances is None else chances[:points].tolist()
        self._legal = [True] * points if scene.legal is None else scene.legal[:points].tolist()
        settled = scene.settled
        self._settled = [0] * points if settled is None else settled.flatten().tolist()
        self._owners: list[float] | None = (
            None if ownership is None else ownership.flatten().tolist()
        )
        self._highest = highest
        self._labelled = self._points_with_labels()

    def shapes(self) -> Iterator[Shape]:
        """Everything, from the wood up."""
        low, high = self.cell, self.size * self.cell
        margin = 0.5 * self.cell
        side = high - low + 2 * margin
        yield Box(low - margin, self.top + low - margin, side, side, _WOOD)
        for point, owner in enumerate(self._settled):
            if owner:
                x, y = self._place(point)
                yield settled_box(x, y, self.cell)
        width = max(1.0, self.cell / 30)
        for index in range(self.size):
            at = (index + 1) * self.cell
            yield Line(low, self.top + at, high, self.top + at, width)
            yield Line(at, self.top + low, at, self.top + high, width)
        for row in _star_lines(self.size):
            for column in _star_lines(self.size):
                yield Disc(*self._place(row * self.size + column), 0.09 * self.cell, INK)
        yield from self._coordinates()
        for point in range(self.size**2):
            shapes = (*self._on_point(point), *self._share(point))
            yield Point(self._vocabulary.vertex(point), self._told(point), shapes)

    def _coordinates(self) -> Iterator[Words]:
        height = min(0.38 * self.cell, 20.0)
        for index in range(self.size):
            at = (index + 1) * self.cell
            letter = self._vocabulary.vertex(index)[0]
            number = self._vocabulary.vertex(index * self.size)[1:]
            yield Words(at, self.top + 0.25 * self.cell, letter, height)
            yield Words(0.25 * self.cell, self.top + at, number, height)

    def _on_point(self, point: int) -> Iterator[Line | Box | Disc | Words]:
        x, y = self._place(point)
        stone, owner = self._stones[point], self._settled[point]
        chance = 0.0 if self._chances is None else self._chances[point]
        if stone:
            yield stone_disc(x, y, self.cell, stone, bool(owner))
            if chance >= _LEAST_LOST:
                # Probability on a stone is a mistake: it is shown around the stone.
                yield Disc(x, y, 0.5 * self.cell, None, _LOST, max(2.0, 0.08 * self.cell))
            if owner == -stone:
                yield self._owner_mark(x, y, owner)
            if point == self.scene.last_move:
                ring = _STONES[-stone]
                yield Disc(x, y, 0.24 * self.cell, None, ring, max(1.5, 0.08 * self.cell))
            return
        yield from self._heat(point, x, y, chance)
        if not self._legal[point]:
            yield from illegal_cross(x, y, self.cell)
        elif owner and not self._strength(chance):
            yield self._owner_mark(x, y, owner)

    def _share(self, point: int) -> Iterator[Box]:
        if self._owners is not None:
            yield from owner_square(*self._place(point), self.cell, self._owners[point])

    def _heat(self, point: int, x: float, y: float, chance: float) -> Iterator[Disc | Words]:
        strength = self._strength(chance)
        if not strength:
            return
        disc = heat_disc(x, y, self.cell, strength)
        if point not in self._labelled or not self._legal[point]:
            yield disc
            return
        yield replace(disc, radius=max(disc.radius, 0.34 * self.cell))
        yield Words(x, y, *self._label(chance), _STONES[-1] if strength > 0.5 else INK)

    def _strength(self, chance: float) -> float:
        """How dark and large a point is, 0 for one that is not drawn."""
        # The square root shows small probabilities, of which there are many.
        strength = float(min(1.0, chance / self._highest) ** 0.5)
        return strength if strength >= _LEAST_STRENGTH else 0.0

    def _label(self, chance: float) -> tuple[str, float]:
        """A chance in percent, and the height of its font."""
        if 100 * chance < 9.95:
            return f"{100 * chance:.1f}", 0.36 * self.cell
        return f"{100 * chance:.0f}", 0.44 * self.cell

    def _points_with_labels(self) -> set[int]:
        """Those above a percent, and if these are few the likeliest of the others."""
        chances = self._chances or []
        order = sorted(range(len(chances)), key=lambda point: -chances[point])
        return {
            point
            for rank, point in enumerate(order)
            if chances[point] >= (_LEAST_LABEL if rank < _MOST_LABELS else 0.01)
        }

    def _owner_mark(self, x: float, y: float, owner: int) -> Box:
        side = 0.24 * self.cell
        return Box(x - side / 2, y - side / 2, side, side, _STONES[owner])

    def _place(self, point: int) -> tuple[float, float]:
        row, column = divmod(point, self.size)
        return (column + 1) * self.cell, self.top + (row + 1) * self.cell

    def _told(self, point: int) -> str:
        words = [self._vocabulary.vertex(point)]
        if self._stones[point]:
            words.append("black" if self._stones[point] > 0 else "white")
        elif not self._legal[point]:
            words.append("illegal")
        if self._chances is not None and (not self._stones[point] or self._chances[point]):
            words.append(f"{100 * self._chances[point]:.2f} %")
        if self._settled[point]:
            words.append(f"settled for {'black' if self._settled[point] > 0 else 'white'}")
        if self._owners is not None:
            words.append(f"black's {50 * (1 + self._owners[point]):.1f} %")
        if point == self.scene.last_move:
            words.append("last move")
        return ", ".join(words)


def heat_disc(x: float, y: float, cell: float, strength: float) -> Disc:
    """The disc of a point so likely, 0 to 1, where 1 is the likeliest there is."""
    colour = tuple(
        round(low + strength * (high - low)) for low, high in zip(_UNLIKELY, _LIKELY, strict=True)
    )
    # Small discs leave the lines of the board to be seen.
    return Disc(x, y, (0.16 + 0.3 * strength) * cell, (colour[0], colour[1], colour[2]))


def stone_disc(x: float, y: float, cell: float, colour: int, is_settled: bool = False) -> Disc:
    """A stone, +1 black or -1 white."""
    fill = (_SETTLED_STONES if is_settled else _STONES)[colour]
    return Disc(x, y, 0.45 * cell, fill, INK, max(1.0, 0.03 * cell))


def settled_box(x: float, y: float, cell: float) -> Box:
    """What lies below a settled point."""
    return Box(x - cell / 2, y - cell / 2, cell, cell, _SETTLED)


def owner_square(x: float, y: float, cell: float, owner: float) -> Iterator[Box]:
    """The sign of whose a point will be: the surer, the larger.

    Args:
        x: of the point.
        y: of the point.
        cell: the distance of two lines.
        owner: 1 black's for sure, -1 white's, about 0 neither's, which has no sign.
    """
    if abs(owner) < _LEAST_OWNER:
        return
    side = (0.12 + 0.36 * abs(owner)) * cell
    rim = max(1.0, 0.03 * cell)
    # The rim is seen on wood and on a stone of the same colour.
    for length, fill in ((side + 2 * rim, _RIM), (side, _STONES[1 if owner > 0 else -1])):
        yield Box(x - length / 2, y - length / 2, length, length, fill)


def illegal_cross(x: float, y: float, cell: float) -> Iterator[Line]:
    """The sign of a point where nothing may be played."""
    arm = 0.17 * cell
    width = max(1.5, 0.4 * arm)
    yield Line(x - arm, y - arm, x + arm, y + arm, width)
    yield Line(x - arm, y + arm, x + arm, y - arm, width)


def _star_lines(size: int) -> tuple[int, ...]:
    """Rows and columns of the star points."""
    if size < 7:
        return ()
    edge = 2 if size < 12 else 3
    return (edge, size // 2, size - 1 - edge) if size % 2 else (edge, size - 1 - edge)


def panel(
    scene: Scene, title: str, cell: float, top: float, chances: Tensor | None, highest: float
) -> Drawing:
    """A board below its title; of a map the title says how likely a pass is."""
    side = (scene.stones.shape[0] + 1) * cell
    if chances is not None:
        title += f": pass {100 * float(chances[scene.stones.numel()]):.1f} %"
    board = BoardDrawing(scene, cell, top, chances, highest)
    words = Words(side / 2, 0.6 * top, title, 0.62 * cell)
    return Drawing(side, side + top, title, [words, *board.shapes()])
