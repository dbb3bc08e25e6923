"""Tokens of an n×n board and the names of its vertices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tessera.setting_errors import Problem, SettingError, as_int

MIN_BOARD_SIZE = 2
MAX_BOARD_SIZE = 19
MAX_CONTEXT = 64  # moves in a window, where nobody says otherwise
_COLUMNS = "ABCDEFGHJKLMNOPQRST"  # GTP leaves out I, which looks like 1 and J.


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token layout of an n×n board: n² points, then PASS, PAD and EOS.

    A point's token is ``row * n + column``. Row 0 is the top row, so on 19×19 token 0 is A19 and
    token 360 is T1.

    Args:
        board_size: n, 2 to 19.

    Raises:
        ValueError: if ``board_size`` is not a whole number from 2 to 19.

    Example:
        >>> go19 = Vocabulary(19)
        >>> go19.size, go19.vertex(72), go19.token("Q16")
        (364, 'Q16', 72)
    """

    board_size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "board_size", check_board_size("board_size", self.board_size))

    @property
    def num_points(self) -> int:
        """Number of points of the board, n²; points are the tokens below it."""
        return self.board_size**2

    @property
    def pass_token(self) -> int:
        """The token of a pass, n²."""
        return self.num_points

    @property
    def pad_token(self) -> int:
        """The token that fills a batch beyond a game's end, n² + 1; it never counts."""
        return self.num_points + 1

    @property
    def eos_token(self) -> int:
        """The token before a game's first move and after its last, n² + 2."""
        return self.num_points + 2

    @property
    def size(self) -> int:
        """Number of tokens, n² + 3."""
        return num_tokens(self.board_size)

    def vertex(self, token: int) -> str:
        """The name of a token: a GTP vertex such as ``Q16``, or ``pass``, ``PAD``, ``EOS``.

        Raises:
            ValueError: if ``token`` is not in this vocabulary.
        """
        number = as_int(token)
        if number is not None and 0 <= number < self.num_points:
            row, column = divmod(number, self.board_size)
            return f"{_COLUMNS[column]}{self.board_size - row}"
        names = {self.pass_token: "pass", self.pad_token: "PAD", self.eos_token: "EOS"}
        if number is None or number not in names:
            raise ValueError(f"token must be 0 to {self.size - 1}, got {token!r}.")
        return names[number]

    def token(self, vertex: str) -> int:
        """The token of a GTP vertex or of ``pass``, in any case.

        Raises:
            ValueError: if ``vertex`` names no point of this board.
        """
        name = vertex.strip().upper() if isinstance(vertex, str) and vertex.isascii() else ""
        if name == "PASS":
            return self.pass_token
        column = _COLUMNS[: self.board_size].find(name[:1])
        digits = name[1:]
        if name and column >= 0 and digits.isdigit() and len(digits) <= 2:
            row = self.board_size - int(digits)
            if 0 <= row < self.board_size:
                return row * self.board_size + column
        last = f"{_COLUMNS[self.board_size - 1]}{self.board_size}"
        raise ValueError(f"vertex must be A1 to {last} or pass, got {vertex!r}.")


def num_tokens(board_size: int) -> int:
    """The size of the vocabulary of an n×n board, n² + 3, whatever n is."""
    return board_size**2 + 3


def board_size_of(tokens: int) -> int:
    """The size n of the largest board whose tokens, n² + 3, are no more than these; at least 0."""
    return math.isqrt(max(0, tokens - num_tokens(0)))


def check_board_size(name: str, value: Any) -> int:
    """The size as an int; SettingError, calling it ``name``, unless it is a whole one, 2 to 19."""
    size = as_int(value)
    if size is None or not MIN_BOARD_SIZE <= size <= MAX_BOARD_SIZE:
        raise SettingError(Problem(name, repr(value), f"be {MIN_BOARD_SIZE} to {MAX_BOARD_SIZE}"))
    return size
