"""Unconditional life and territory from the definition: sets of chains and regions, one board.

Nothing here is shared with tessera.go. A board is rows of X, O and dots and may be a rectangle; a
point is (row, column). Source: Benson, "Life in the game of Go" (1976), sections 2 and 3.
"""

from __future__ import annotations

Point = tuple[int, int]
Part = frozenset[Point]


def around(points: frozenset[Point] | set[Point]) -> set[Point]:
    """The points beside a point of the set; some may be in the set or off the board."""
    beside: set[Point] = set()
    for row, column in points:
        beside |= {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)}
    return beside


def connected_parts(points: set[Point]) -> list[Part]:
    """The connected parts of a set, by walking."""
    left, parts = set(points), []
    while left:
        part, todo = set(), [left.pop()]
        while todo:
            point = todo.pop()
            part.add(point)
            found = around({point}) & left
            left -= found
            todo += found
        parts.append(frozenset(part))
    return parts


def pass_alive(board: list[str], colour: str, suicide: bool) -> tuple[set[Point], set[Point]]:
    """The colour's pass-alive stones, and its territory."""
    points = {(r, c): letter for r, row in enumerate(board) for c, letter in enumerate(row)}
    own = {point for point, letter in points.items() if letter == colour}
    empty = {point for point, letter in points.items() if letter == "."}
    chains = connected_parts(own)
    regions = [part for part in connected_parts(set(points) - own) if part & empty]
    touched = {region: {c for c in chains if c & around(region)} for region in regions}

    def is_vital(region: Part, chain: Part) -> bool:
        return (region if suicide else region & empty) <= around(chain)

    alive, healthy = set(chains), set(regions)
    while True:
        stays = {c for c in alive if sum(is_vital(region, c) for region in healthy) >= 2}
        healthy = {region for region in healthy if touched[region] <= stays}
        if stays == alive:
            break
        alive = stays
    territory = {
        point
        for region in regions
        if touched[region] and touched[region] <= alive and len(region - around(own)) <= 1
        for point in region
    }
    return {point for chain in alive for point in chain}, territory


def settled_map(board: list[str], suicide: bool) -> list[str]:
    """The board with X or O on the points settled for a colour, and dots elsewhere."""
    letters = {(r, c): "." for r, row in enumerate(board) for c in range(len(row))}
    for colour in "XO":
        for points in pass_alive(board, colour, suicide):
            letters |= dict.fromkeys(points, colour)
    return ["".join(letters[r, c] for c in range(len(row))) for r, row in enumerate(board)]
