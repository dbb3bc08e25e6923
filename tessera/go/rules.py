"""The rules of a game of Go as one record, and the named presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tessera.setting_errors import (
    Problem,
    SettingError,
    fits,
    number,
    one_of,
    or_none,
    problems_of,
    whole,
)

_MOST_KOMI = 1e30  # a score, which is float32, is still a number
_MOST_PLIES = 1_000_000_000  # the kernels count them in 32 bits

Ko = Literal["simple", "positional", "situational"]
Capture = Literal["chains", "single"]
Score = Literal["area", "pass_alive"]

_ALLOWED = {
    "ko": one_of(*get_args(Ko)),
    "capture": one_of(*get_args(Capture)),
    "suicide": fits("true or false", lambda value: isinstance(value, bool)),
    "komi": number(f"a number from -{_MOST_KOMI} to {_MOST_KOMI}", lambda x: abs(x) <= _MOST_KOMI),
    "max_moves": or_none(whole(1, _MOST_PLIES)),
    "score": one_of(*get_args(Score)),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is legal, what is captured, when a game ends and how it is counted.

    Args:
        ko: ``simple`` forbids retaking a single stone at once; ``positional`` forbids every
            earlier whole-board position; ``situational`` only those with the same player to move.
        suicide: whether a move may take the mover's own stones off the board. That of a single
            stone leaves the position as it was: positional superko forbids it always, situational
            only if the other player has been to move in this position before, and simple ko never.
            There it is a pass that does not count as one of the two that end a game.
        capture: ``chains`` captures every chain without liberties; ``single`` only chains of one
            stone, and then only a single stone can be a suicide (the design's second phase).
        komi: points added to white's area, -1e30 to 1e30.
        max_moves: plies after which a game is over, at most a billion; None stands for 2·n².
        score: ``area`` counts all stones as they stand; under ``pass_alive`` the dead ones inside
            the other's pass-alive territory count for the other, as if they were taken off first.
            It needs the capture of chains, as ``settled_points`` does.

    Raises:
        SettingError: with a problem for every argument outside what is said here.

    Source: Tromp-Taylor rules; superko names as at Sensei's Library; ``pass_alive`` is the area
    scoring of KataGo's rules (lightvector.github.io/KataGo/rules.html) with its self-play options
    and without tax and button. These also end a game once all points are settled; ours go on.
    """

    ko: Ko = "positional"
    suicide: bool = False
    capture: Capture = "chains"
    komi: float = 7.5
    max_moves: int | None = None
    score: Score = "area"

    def __post_init__(self) -> None:
        problems = problems_of(self, _ALLOWED)
        if not problems and self.capture == "single" and self.score == "pass_alive":
            must = "be area where only single stones are captured"
            problems.append(Problem("score", self.score, must))
        if problems:
            raise SettingError(*problems)

    def move_limit(self, board_size: int) -> int:
        """Plies after which a game on this board size is over."""
        return 2 * board_size**2 if self.max_moves is None else int(self.max_moves)

    def bytes_per_game(self, board_size: int) -> int:
        """Bytes that the engine holds of one game on this board size; all of one size."""
        plies = self.move_limit(board_size)
        # Three sets of points, the counters of a game, and its moves.
        num_bytes = 3 * 4 * board_size + 7 * 8 + 1 + 2 * plies
        if self.ko != "simple":
            # Two sets with their marks, hashes of all positions, and a filter of 4,096 bits.
            num_bytes += 2 * (4 * board_size + 1) + 8 * (1 + plies + 1) + 4096 // 8
        return num_bytes


RULES = {
    "full": Rules(),
    "phase2": Rules(ko="simple", capture="single"),
    "tromp-taylor": Rules(ko="positional", suicide=True),
}


def resolve_rules(rules: str | Rules) -> Rules:
    """The record behind a preset's name; a record is returned as it is.

    Raises:
        SettingError: if there is no preset of that name.
    """
    if isinstance(rules, Rules):
        return rules
    one_of(*RULES)("rules", rules)
    return RULES[rules]


def check_skip_settled(skip_settled: bool, rules: Rules) -> bool:
    """The value, if games by these rules can leave settled points alone as it says.

    Raises:
        SettingError: if it is neither true nor false, or is true where chains cannot be captured.
    """
    fits("true or false", lambda value: isinstance(value, bool))("skip_settled", skip_settled)
    if skip_settled and rules.capture == "single":
        must = "be false where only single stones are captured"
        raise SettingError(Problem("skip_settled", skip_settled, must))
    return skip_settled
