"""Chains of stones on one small board, in plain Python: where they are, who would risk them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def chains_of(colours: Sequence[int], size: int) -> list[list[int]]:
    """Each connected part of equal numbers that are not 0, its points in order.

    Args:
        colours: (n²) by rows: +1 black, -1 white, 0 empty.
        size: n.
    """
    left = {point for point, colour in enumerate(colours) if colour}
    found = []
    while left:
        chain = _chain_at(min(left), colours, size)
        left -= chain
        found.append(sorted(chain))
    return found


def liberties(chain: Iterable[int], colours: Sequence[int], size: int) -> set[int]:
    """The empty points beside a chain."""
    return {other for point in chain for other in beside(point, size) if not colours[other]}


def beside(point: int, size: int) -> Iterator[int]:
    """The points that share a line with a point and are next to it."""
    row, column = divmod(point, size)
    for y, x in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
        if 0 <= y < size and 0 <= x < size:
            yield y * size + x


def is_left_alone(chain: Sequence[int], colours: Sequence[int], size: int) -> bool:
    """Whether nobody may want to fill a liberty of the chain.

    On each of them a stone of either colour would take nothing, and be in atari: so it is in a
    seki, and also where the one who fills gives some stones away to kill the chain later.
    """
    return all(
        _is_self_atari(point, colour, colours, size)
        for point in liberties(chain, colours, size)
        for colour in (1, -1)
    )


def _is_self_atari(point: int, colour: int, colours: Sequence[int], size: int) -> bool:
    """Whether a stone on an empty point takes nothing and has at most one liberty."""
    after = list(colours)
    after[point] = colour
    enemies = [other for other in beside(point, size) if after[other] == -colour]
    if not all(liberties(_chain_at(other, after, size), after, size) for other in enemies):
        return False
    return len(liberties(_chain_at(point, after, size), after, size)) <= 1


def _chain_at(first: int, colours: Sequence[int], size: int) -> set[int]:
    chain, rest = {first}, [first]
    while rest:
        point = rest.pop()
        more = {other for other in beside(point, size) if colours[other] == colours[first]} - chain
        chain |= more
        rest += more
    return chain
