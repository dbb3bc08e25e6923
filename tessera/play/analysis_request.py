"""What an analysis is asked for: ``lz-analyze B 50 maxmoves 10 avoid B D4 1``.

Source: KataGo's docs/GTP_Extensions.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from tessera.play.map_text import analysis
from tessera.play.session import Outlook
from tessera.vocabulary import Vocabulary

COLOURS = {"b": 0, "black": 0, "w": 1, "white": 1}
_NUMBER = r"[0-9]{1,9}(\.[0-9]*)?"
_LEAST_S, _USUAL_S = 0.01, 1.0
# With a value that is taken and changes nothing: there is no search.
_IDLE = {
    *("minmoves", "ownershipstdev", "movesownership", "movesownershipstdev"),
    *("pvvisits", "pvedgevisits", "rootinfo", "nomoreinfo"),
}


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """One request.

    Attributes:
        colour: whose moves: 0 black, 1 white.
        interval_s: how often they are told.
        most: how many of them, None for all.
        avoided: tokens to leave out.
        allowed: tokens to tell of alone; None for all.
        vocabulary: of the board.
        has_ownership: whether it is asked whose the points will be.
    """

    colour: int
    interval_s: float
    most: int | None
    avoided: frozenset[int]
    allowed: frozenset[int] | None
    vocabulary: Vocabulary
    has_ownership: bool = False

    @classmethod
    def of(cls, words: list[str], turn: int, vocabulary: Vocabulary) -> AnalysisRequest:
        """The request of a command's arguments.

        Args:
            words: the arguments.
            turn: whose turn it is, if they do not say a colour.
            vocabulary: of the board.

        Raises:
            ValueError: if they cannot be understood.
        """
        left = list(words)
        colour, interval = turn, None
        if left and left[0].lower() in COLOURS:
            colour = COLOURS[left.pop(0).lower()]
        if left and re.fullmatch(_NUMBER, left[0]):
            interval = float(left.pop(0))
        most: int | None = None
        sets: dict[str, set[int]] = {"avoid": set(), "allow": set()}
        is_limited = has_ownership = False
        while left:
            key = left.pop(0).lower()
            if key in sets and len(left) >= 3:
                who, vertices, depth, *left = left
                if who.lower() not in COLOURS or not re.fullmatch(r"[1-9][0-9]{0,8}", depth):
                    raise ValueError(f"{key} must be followed by a color, vertices and a depth")
                tokens = {vocabulary.token(vertex[:20]) for vertex in vertices.split(",")}
                if COLOURS[who.lower()] == colour:
                    sets[key] |= tokens
                    is_limited |= key == "allow"
            elif key == "interval" and left and re.fullmatch(_NUMBER, left[0]):
                interval = float(left.pop(0))
            elif key == "maxmoves" and left and re.fullmatch(r"[0-9]{1,9}", left[0]):
                most = max(1, int(left.pop(0)))
            elif key == "ownership" and left:
                has_ownership = left.pop(0).lower() == "true"
            elif key in _IDLE and left:
                left.pop(0)
            else:
                raise ValueError("arguments must be a color, an interval and keys with values")
        seconds = _USUAL_S if interval is None else max(_LEAST_S, interval / 100)
        allowed = frozenset(sets["allow"]) if is_limited else None
        avoided = frozenset(sets["avoid"])
        return cls(colour, seconds, most, avoided, allowed, vocabulary, has_ownership)

    def tokens(self) -> set[int]:
        """Points and PASS that are not to be left out, legal or not."""
        tokens = set(range(self.vocabulary.num_points + 1)) - self.avoided
        return tokens if self.allowed is None else tokens & self.allowed

    def line(self, outlook: Outlook, is_kata: bool, ownership: Tensor | None = None) -> str:
        """The line that is told, with its end; empty if all moves are left out.

        Args:
            outlook: seen from the player to move.
            is_kata: as KataGo writes it, ownership included if it is asked for.
            ownership: (n, n), 1 a point of the player to move; None if nobody knows.
        """
        tokens = self.tokens()
        owners = ownership if is_kata and self.has_ownership else None
        told = analysis(outlook, self.vocabulary, is_kata, tokens, self.most, owners)
        return f"{told}\n" if told else ""
