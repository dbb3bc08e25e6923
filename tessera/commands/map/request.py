"""What ``tessera map`` was asked for, and what can be said against it before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        file: an SGF file or a board, ``-`` for standard input; None if ``moves`` are given.
        moves: vertices with blanks or commas between them; None if there is a file.
        game: which game of an SGF file, from 1 on; None for its only one.
        move: after how many of an SGF game's moves; None for all.
        to_play: who moves on a board that was drawn, black or white.
    """

    file: str | None
    moves: str | None
    game: int | None = None
    move: int | None = None
    to_play: str | None = None

    def problems(self) -> list[str]:
        """What can be said against it before anything is read."""
        problems = []
        if (self.file is None) == (self.moves is None):
            got = "none" if self.file is None else "both"
            problems.append(f"there must be either a FILE or --moves, got {got}.")
        if self.file == "":
            problems.append("FILE must name a file, got none.")
        options = {"--game": self.game, "--move": self.move, "--to_play": self.to_play}
        if self.moves is not None:
            given = [name for name, value in options.items() if value is not None]
            problems += [f"{name} is of a FILE, not of --moves." for name in given]
        if self.game is not None and self.game < 1:
            problems.append(f"--game must be at least 1, got {self.game}.")
        if self.move is not None and self.move < 0:
            problems.append(f"--move must be at least 0, got {self.move}.")
        return problems
