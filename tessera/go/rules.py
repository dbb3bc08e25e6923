"""The rules of a game of Go as one record, and the named presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Ko = Literal["simple", "positional", "situational"]
Capture = Literal["chains", "single"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is legal, what is captured, when a game ends and how it is counted.

    Args:
        ko: ``simple`` forbids retaking a single stone at once; ``positional`` forbids every
            earlier whole-board position; ``situational`` only those with the same player to move.
        suicide: whether a move may take the mover's own stones off the board.
        capture: ``chains`` captures every chain without liberties; ``single`` only chains of one
            stone, and then only a single stone can be a suicide (the design's second phase).
        komi: points added to white's area.
        max_moves: plies after which a game is over; None stands for 2·n².

    Raises:
        ValueError: if ``ko`` or ``capture`` is no such name, ``komi`` is not finite, or
            ``max_moves`` is below 1.

    Source: Tromp-Taylor rules; superko names as at Sensei's Library.
    """

    ko: Ko = "positional"
    suicide: bool = False
    capture: Capture = "chains"
    komi: float = 7.5
    max_moves: int | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("ko", self.ko, get_args(Ko)),
            ("capture", self.capture, get_args(Capture)),
        ):
            if value not in allowed:
                raise ValueError(f"rules.{name} must be one of {', '.join(allowed)}, got {value}.")
        if not math.isfinite(self.komi):
            raise ValueError(f"rules.komi must be a finite number, got {self.komi}.")
        if self.max_moves is not None and self.max_moves < 1:
            raise ValueError(f"rules.max_moves must be at least 1, got {self.max_moves}.")

    def move_limit(self, board_size: int) -> int:
        """Plies after which a game on this board size is over."""
        return 2 * board_size**2 if self.max_moves is None else self.max_moves


RULES = {
    "full": Rules(),
    "phase2": Rules(ko="simple", capture="single"),
    "tromp-taylor": Rules(ko="positional", suicide=True),
}


def resolve_rules(rules: str | Rules) -> Rules:
    """The record behind a preset's name; a record is returned as it is.

    Raises:
        ValueError: if there is no preset of that name.
    """
    if isinstance(rules, Rules):
        return rules
    if rules not in RULES:
        raise ValueError(f"rules must be one of {', '.join(RULES)}, got {rules}.")
    return RULES[rules]
