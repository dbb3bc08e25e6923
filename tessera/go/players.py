"""Players: what one has to do, and those that are exact distributions.

Of an exact distribution the best possible loss on its games is known. It sorts the points into
classes and gives every point of class c the weight 2^exponent[c]. The weights are whole numbers and
the draw is integer arithmetic: every backend plays the same move.
Shapes: B games, n rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tessera.go.bitboard import count_points, neighbours, nth_point, unpack
from tessera.go.engine import GPUGoEngine
from tessera.go.randomness import below
from tessera.go.shapes import (
    border,
    constant,
    hane_and_cuts,
    moved,
    surroundings,
    true_eyes,
    two_of_four,
)
from tessera.setting_errors import one_of


@dataclass(frozen=True, slots=True)
class Choice:
    """One drawn move in each game.

    Attributes:
        moves: (B,) int64 tokens, PASS where the player has no other move.
        log_probs: (B,) float32, the exact log-probability of each move in nats.
        entropies: (B,) float32, the exact entropy of each choice in nats.
    """

    moves: Tensor
    log_probs: Tensor
    entropies: Tensor


class Player(Protocol):
    """Who chooses the moves of a batch of games.

    Attributes:
        name: what a record calls it.
    """

    @property
    def name(self) -> str: ...

    def begin(self, engine: GPUGoEngine) -> int | None:
        """Forget everything: new games stand in all places of the engine.

        Returns:
            Another number whenever it remembers in other tensors, of which a graph holds the old.
        """
        ...

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        """Draw a move in every game; in those that are over it does not matter which.

        Args:
            engine: the games, of which nothing is changed.
            words: (B,) int64, 64 random bits for each game.
        """
        ...

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        """Take note of a ply.

        Args:
            engine: the games after it.
            moves: (B,) int64 tokens that were played.
            over: (B,) bool, True where the game is over: another one begins there, if any does.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExactPlayer:
    """A player that gives every point the weight of its class, and remembers nothing.

    Attributes:
        name: what a record calls it.
        exponents: of the C classes: a point of class c has the weight 2^exponents[c].
        classes: (C, n, B) disjoint sets of points in the order of ``exponents``, from the engine;
            the rest has weight 0, and where all are empty the player passes.
    """

    name: str
    exponents: tuple[int, ...]
    classes: Callable[[GPUGoEngine], Tensor]

    def begin(self, engine: GPUGoEngine) -> None:
        """Nothing is remembered."""

    def choose(self, engine: GPUGoEngine, words: Tensor) -> Choice:
        """Draw a move from the distribution in every game; see ``Player``."""
        classes = self.classes(engine)
        exponents = constant(self.exponents, torch.int64, engine.device).unsqueeze(1)
        # Class by class, because all of them at once would fall out of the processor's cache.
        counts = torch.stack([count_points(points) for points in classes]).long()
        weights = counts << exponents
        through = weights.cumsum(0)
        total = through[-1]
        drawn = below(words, total)
        which = (through <= drawn).sum(0).clamp_(max=len(self.exponents) - 1)
        at = which.unsqueeze(0)
        exponent = exponents.squeeze(1)[which]
        nth = drawn - (through - weights).gather(0, at).squeeze(0) >> exponent
        points = classes[0]
        if len(self.exponents) > 1:
            points = classes.gather(0, at.unsqueeze(1).expand(1, *points.shape)).squeeze(0)
        row, column = nth_point(points, nth)

        has_move = total > 0
        moves = torch.where(
            has_move, row * engine.board_size + column, engine.vocabulary.pass_token
        )
        # Sums of whole numbers first, so that no order of adding can show in the result.
        log_total = total.clamp(min=1).double().log()
        log_probs = torch.where(has_move, exponent * math.log(2) - log_total, 0.0).clamp_(max=0)
        mean_exponent = (weights * exponents).sum(0).double() / total.clamp(min=1)
        entropies = (log_total - mean_exponent * math.log(2)).clamp_(min=0)
        return Choice(moves, log_probs.float(), entropies.float())

    def observe(self, engine: GPUGoEngine, moves: Tensor, over: Tensor) -> None:
        """Nothing is remembered."""


# The rule-based player's weight of a move is the product of the factors that apply to it.
_STRONG, _MILD = 4, 3
FACTORS = {
    "capture": 2.0**_STRONG,  # takes an enemy chain that is in atari
    "rescue": 2.0**_STRONG,  # an own chain in atari gets out or joins one that is not in atari
    "self_atari": 2.0**-_STRONG,  # at most one empty neighbour, takes nothing, joins no safe chain
    "near": 2.0**_MILD,  # one of the eight points around the last move
    "shape": 2.0**_MILD,  # makes a hane or a cut
    "early_first_line": 2.0**-_MILD,  # on the first line in the first n²/4 plies
}


def rules_classes(engine: GPUGoEngine) -> Tensor:
    """The classes of a rule-based random player with some sense of Go.

    The candidates are those of the uniform player; FACTORS is the table of weights, scaled so that
    the smallest product is 1. A move that has i of the favourable marks among capture, rescue and
    "no self-atari" and j among near, shape and "not early on the first line" is in class 4i + j,
    which has the weight 2^(4i + 3j).
    """
    candidates = _candidates(engine)
    position, size = engine.position, engine.board_size
    own, opponent, atari = position.own, position.opponent, position.atari
    empty = position.empty
    beside = (moved(empty, 1, 0), moved(empty, -1, 0), empty << 1, empty >> 1)
    roomy = neighbours(own & ~atari) | two_of_four(*beside)

    capture = neighbours(opponent & atari)
    rescue = neighbours(own & atari) & roomy
    fours = _how_many(capture, rescue, roomy | capture)

    last = engine.last_move_rows()
    early = (engine.move_number < size**2 // 4).to(torch.int32)
    not_early_first_line = ~(border(size, engine.device) * early)
    shape = hane_and_cuts(own, opponent, beside)
    threes = _how_many(surroundings(last), shape, not_early_first_line)

    result = torch.empty(16, *candidates.shape, dtype=torch.int32, device=engine.device)
    for i, four in enumerate(fours):
        chosen = candidates & four
        for j, three in enumerate(threes):
            torch.bitwise_and(chosen, three, out=result[4 * i + j])
    return result


PLAYERS = {
    player.name: player
    for player in (
        # Every playable point that is no own true eye, as one class.
        ExactPlayer("uniform", (0,), lambda engine: _candidates(engine).unsqueeze(0)),
        ExactPlayer(
            "rules",
            tuple(_STRONG * i + _MILD * j for i in range(4) for j in range(4)),
            rules_classes,
        ),
    )
}


def get_player(name: str) -> ExactPlayer:
    """The built-in player of that name.

    Raises:
        SettingError: if there is none.
    """
    one_of(*PLAYERS)("player", name)
    return PLAYERS[name]


def distribution(player: ExactPlayer, engine: GPUGoEngine) -> Tensor:
    """The probability of every move.

    Returns:
        (B, n² + 1) float32, the last column is pass; each row sums to 1.
    """
    points = torch.zeros(engine.batch_size, engine.vocabulary.num_points, device=engine.device)
    for exponent, rows in zip(player.exponents, player.classes(engine), strict=True):
        points += unpack(rows).flatten(1) * 2.0**exponent
    total = points.sum(1, keepdim=True)
    return torch.cat([points / total.clamp(min=1), (total == 0).float()], 1)


def _candidates(engine: GPUGoEngine) -> Tensor:
    """The playable points that fill no own true eye; (n, B)."""
    position = engine.position
    line = border(engine.board_size, engine.device)
    return engine.playable_rows() & ~true_eyes(position.own, position.opponent, line)


def _how_many(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The points that are in none, one, two and three of the sets."""
    odd, any_two = a ^ b ^ c, a & b | c & (a | b)
    return ~(odd | any_two), odd & ~any_two, any_two & ~odd, odd & any_two
