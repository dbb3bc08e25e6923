"""How a game stands if it ended now: whose the points are, which stones are dead, the board."""

from __future__ import annotations

import torch
from torch import Tensor

from tessera.go.bitboard import unpack
from tessera.play.session import Session
from tessera.transfers import to_host

_LETTERS = {0: ".", 1: "X", -1: "O"}


def owners(session: Session) -> Tensor:
    """(n, n) int64 on the CPU: +1 black's point, -1 white's, 0 neither's.

    Settled points, the dead stones on them too, are their owner's; the rest is counted as area,
    with all stones as they stand.
    """
    engine = session.engine
    area = engine.ownership()[0]
    if engine.rules.capture != "single":  # where no chain can die
        settled = engine.settled_points()
        black, white = (unpack(rows)[0] for rows in (settled.black, settled.white))
        area = torch.where(black, 1, torch.where(white, -1, area))
    return to_host(area, "session")


def score(session: Session, komi: float) -> str:
    """The result as the protocol writes it: ``B+3.5``, ``W+10`` or ``0``."""
    margin = int(owners(session).sum()) - komi
    return f"{'B' if margin > 0 else 'W'}+{abs(margin):g}" if margin else "0"


def chains(session: Session, status: str) -> list[list[int]]:
    """The chains of stones that are alive, dead or in seki, as tokens.

    Dead are those inside the other's settled territory; no stone is said to be in seki.

    Args:
        session: the game.
        status: alive, dead or seki.
    """
    stones = session.stones
    is_dead = stones * owners(session) < 0
    wanted = {"alive": ~is_dead, "dead": is_dead, "seki": torch.zeros_like(is_dead)}[status]
    colours = torch.where(wanted, stones, 0).flatten().tolist()
    return _chains(colours, session.board_size)


def _chains(colours: list[int], size: int) -> list[list[int]]:
    """Each chain of equal numbers that are not 0."""
    left = {point for point, colour in enumerate(colours) if colour}
    found = []
    while left:
        first = min(left)
        left.remove(first)
        chain = [first]
        for point in chain:  # which grows meanwhile
            for other in _beside(point, size):
                if other in left and colours[other] == colours[first]:
                    left.remove(other)
                    chain.append(other)
        found.append(sorted(chain))
    return found


def _beside(point: int, size: int) -> list[int]:
    row, column = divmod(point, size)
    places = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return [y * size + x for y, x in places if 0 <= y < size and 0 <= x < size]


def board_text(session: Session) -> list[str]:
    """The board in letters, a line for each row: X is black, O white; coordinates around it."""
    size, vertex = session.board_size, session.vocabulary.vertex
    columns = "   " + " ".join(vertex(column)[0] for column in range(size))
    lines = [columns]
    for row, stones in enumerate(session.stones.tolist()):
        points = " ".join(_LETTERS[stone] for stone in stones)
        lines.append(f"{size - row:2} {points} {size - row}")
    return [*lines, columns]
