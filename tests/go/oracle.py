"""A slow referee for one game, written from the text of the Tromp-Taylor rules.

Nothing here is shared with tessera.go: a position is a tuple of n² letters, a chain is found by
walking, superko is a set of all earlier positions, and legality is tried out move by move.

Source: Tromp-Taylor rules of Go, rules 3 to 10. The letters are "." (rule 3's uncoloured), "X"
(black) and "O" (white). Where we differ on purpose: suicide may be forbidden, ko may be simple
(the position before the opponent's capture may not return at once) or situational (a position
repeats only together with the player to move), and under ``single`` only chains of one stone are
ever cleared.
"""

from __future__ import annotations

EMPTY, BLACK, WHITE = ".", "X", "O"
COLOURS = (BLACK, WHITE)
Grid = tuple[str, ...]


def grid_lines(point: int, size: int) -> list[int]:
    """The points beside a point: rule 3's adjacency."""
    row, column = divmod(point, size)
    beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [r * size + c for r, c in beside if 0 <= r < size and 0 <= c < size]


class Oracle:
    """One game from the empty grid (or a given one); points are counted from the top left."""

    def __init__(
        self,
        size: int,
        ko: str,
        suicide: bool,
        capture: str = "chains",
        grid: Grid | None = None,
        turn: int = 0,
    ) -> None:
        self.size, self.ko, self.suicide, self.capture = size, ko, suicide, capture
        self.adjacent = [grid_lines(point, size) for point in range(size**2)]
        self.grid = grid or (EMPTY,) * size**2
        self.turn = turn
        self.history = {self._situation(self.grid, turn)}
        self.before_capture: Grid | None = None
        self.outcomes: dict[int, tuple[Grid, Grid]] = {}
        self.passes = 0
        self.captured = [0, 0]
        self.ko_refusals = 0

    def connected(self, grid: Grid, point: int) -> tuple[set[int], set[str]]:
        """The points connected to a point through its own colour, and what they are adjacent to.

        Rule 4: a point reaches a colour if there is a path of its own colour to that colour.
        """
        inside, reached, todo = {point}, set(), [point]
        while todo:
            for other in self.adjacent[todo.pop()]:
                if grid[other] != grid[point]:
                    reached.add(grid[other])
                elif other not in inside:
                    inside.add(other)
                    todo.append(other)
        return inside, reached

    def cleared(self, grid: Grid, colour: str) -> Grid:
        """Rule 5: every point of the colour that does not reach empty becomes empty."""
        gone: set[int] = set()
        for point, stone in enumerate(grid):
            if stone == colour and point not in gone:
                chain, reached = self.connected(grid, point)
                if EMPTY not in reached and (self.capture == "chains" or len(chain) == 1):
                    gone |= chain
        return tuple(EMPTY if point in gone else stone for point, stone in enumerate(grid))

    def after(self, point: int) -> tuple[Grid, Grid]:
        """Rule 7: the grid with the opponent's colour cleared, and that with one's own as well."""
        if point not in self.outcomes:
            self.outcomes[point] = self._after(point)
        return self.outcomes[point]

    def _after(self, point: int) -> tuple[Grid, Grid]:
        mine, theirs = COLOURS[self.turn], COLOURS[1 - self.turn]
        placed = (*self.grid[:point], mine, *self.grid[point + 1 :])
        captured = self.cleared(placed, theirs)
        return captured, self.cleared(captured, mine)

    def _situation(self, grid: Grid, turn: int) -> object:
        return (grid, turn) if self.ko == "situational" else grid

    def refuses(self, point: int) -> str:
        """Why a point is illegal: "occupied", "suicide", "ko", or "" for a legal move."""
        if self.grid[point] != EMPTY:
            return "occupied"
        captured, grid = self.after(point)
        if not self.suicide and grid != captured:
            return "suicide"
        if self.ko == "simple":
            return "ko" if grid == self.before_capture else ""
        return "ko" if self._situation(grid, 1 - self.turn) in self.history else ""

    def legal(self) -> list[bool]:
        """For every point and the pass whether it may be played in this position."""
        reasons = [self.refuses(point) for point in range(self.size**2)]
        self.ko_refusals += reasons.count("ko")
        return [reason == "" for reason in reasons] + [True]

    def play(self, move: int) -> None:
        """A point, or n² for a pass, trusted to be legal; ignored once the game is over."""
        if self.is_over():
            return
        if move == self.size**2:
            self.passes += 1
            self.before_capture = None
        else:
            before = self.grid
            captured, self.grid = self.after(move)
            theirs, mine = COLOURS[1 - self.turn], COLOURS[self.turn]
            taken = before.count(theirs) - captured.count(theirs)
            self.captured[self.turn] += taken
            self.captured[1 - self.turn] += captured.count(mine) - self.grid.count(mine)
            self.before_capture = before if taken else None
            self.passes = 0
        self.turn = 1 - self.turn
        self.outcomes = {}
        self.history.add(self._situation(self.grid, self.turn))

    def is_over(self) -> bool:
        """Rule 9: the game ends after two consecutive passes."""
        return self.passes >= 2

    def area(self) -> int:
        """Rule 10: black's points and empty points reaching only black, minus white's."""
        total = 0
        for point, stone in enumerate(self.grid):
            reached = {stone} if stone != EMPTY else self.connected(self.grid, point)[1] - {EMPTY}
            total += {frozenset(BLACK): 1, frozenset(WHITE): -1}.get(frozenset(reached), 0)
        return total
