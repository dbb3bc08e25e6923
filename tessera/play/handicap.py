"""Where handicap stones stand, by the Go Text Protocol's fixed points."""

from __future__ import annotations

from tessera.vocabulary import Vocabulary

_LEAST_BOARD, _LARGE_BOARD = 7, 13  # on a large one the points are on the fourth line


def most_stones(board_size: int) -> int:
    """The most stones that have fixed points: 9 where the lines have a middle, 0 on small boards.

    Source: Go Text Protocol 2, section 4.1.1.
    """
    if board_size < _LEAST_BOARD:
        return 0
    return 4 if board_size % 2 == 0 or board_size == _LEAST_BOARD else 9


def fixed_points(stones: int, vocabulary: Vocabulary) -> list[int]:
    """The points of so many handicap stones, as tokens, in the protocol's order.

    Args:
        stones: at most ``most_stones``.
        vocabulary: of the board.
    """
    size = vocabulary.board_size
    low = 3 if size < _LARGE_BOARD else 4
    middle, high = (size + 1) // 2, size + 1 - low
    places = [(low, low), (high, high), (low, high), (high, low)]
    if stones >= 6:
        places += [(low, middle), (high, middle)]
    if stones >= 8:
        places += [(middle, low), (middle, high)]
    if stones in (5, 7, 9):
        places.append((middle, middle))
    # Columns and lines are counted from 1, lines from below.
    return [(size - line) * size + column - 1 for column, line in places[:stones]]
