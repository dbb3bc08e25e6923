"""Whether given games are legal: the engine plays them all at once, ply by ply.

Shapes: B games of at most L plies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, Rules
from tessera.go.bitboard import unpack
from tessera.go.position import no_suicide
from tessera.play.sgf_setup import SetUp

_AT_ONCE = 2048  # games in one engine; 19×19 games take about 20 MiB then


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say to one game.

    Attributes:
        fault: the first move that is illegal and why; None if there is none.
        warning: the first move that only these rules' superko forbids; None if there is none.
    """

    fault: str | None = None
    warning: str | None = None


def judge(
    games: Sequence[list[int]],
    board_size: int,
    rules: Rules,
    starts: Sequence[SetUp | None] | None = None,
) -> list[Verdict]:
    """A verdict on each game.

    What every rule set forbids is a fault: an occupied point, retaking a single stone at once, a
    move after two passes. So are suicide, where these rules forbid it, and a move past their
    limit. Superko differs between rule sets and changes no stone, so a longer repetition is only
    a warning.

    Args:
        games: moves as tokens, points and passes.
        board_size: n.
        rules: those to judge by.
        starts: what stands before each game's first move; None for the empty board.
    """
    starts = [None] * len(games) if starts is None else starts
    verdicts = [Verdict()] * len(games)
    # Games of about the same length share an engine.
    order = sorted(range(len(games)), key=lambda game: len(games[game]))
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        begun = [(games[game], starts[game]) for game in some]
        judged = _Table(begun, board_size, rules).judge()
        for game, verdict in zip(some, judged, strict=True):
            verdicts[game] = verdict
    return verdicts


class _Table:
    """Games that are played together, and what was found in them so far."""

    def __init__(
        self, begun: list[tuple[list[int], SetUp | None]], board_size: int, rules: Rules
    ) -> None:
        games, self.rules = [moves for moves, _ in begun], rules
        self.games = games
        self.limit = rules.move_limit(board_size)
        self.plies = min(self.limit, max(map(len, games)))
        # One engine keeps the stones and judges what all rules share, the other judges superko.
        here = replace(rules, max_moves=max(1, self.plies))
        self.shared = GPUGoEngine(len(games), "cpu", board_size, replace(here, ko="simple"))
        self.superko = (
            None if rules.ko == "simple" else GPUGoEngine(len(games), "cpu", board_size, here)
        )
        _set_up(self.shared, [start for _, start in begun])
        if self.superko is not None:
            _set_up(self.superko, [start for _, start in begun])
        self.vocabulary = self.shared.vocabulary
        fill = self.vocabulary.pass_token
        rows = [[*moves[: self.plies], *[fill] * (self.plies - len(moves))] for moves in games]
        self.tokens_BL = torch.tensor(rows, dtype=torch.int64)
        self.lengths_B = torch.tensor([len(moves) for moves in games])
        self.going_B = torch.ones(len(games), dtype=torch.bool)
        self.faults: dict[int, str] = {}
        self.warnings: dict[int, str] = {}

    def judge(self) -> list[Verdict]:
        """Play all games and say what was found."""
        for ply in range(self.plies):
            self._play(ply)
        for game in _numbers(self.going_B & (self.lengths_B > self.limit)):
            self.faults[game] = (
                f"move {self.limit + 1}: the game is over after {self.limit} moves "
                "(the model's data.max_moves)."
            )
        numbers = range(len(self.games))
        return [Verdict(self.faults.get(game), self.warnings.get(game)) for game in numbers]

    def _play(self, ply: int) -> None:
        self.going_B &= self.lengths_B > ply
        over_B = self.going_B & self.shared.is_game_over()
        for game in _numbers(over_B):
            self.faults[game] = f"move {ply + 1}: the game is over after two passes."
        self.going_B &= ~over_B
        tokens_B = self.tokens_BL[:, ply]
        illegal_B = self.going_B & ~_is_legal(self.shared, tokens_B)
        for game in _numbers(illegal_B):
            reason = why_illegal(self.shared, game, self.games[game][ply])
            self.faults[game] = f"{self._move(game, ply)} {reason}."
        self.going_B &= ~illegal_B
        # A game that has ended passes; nobody asks about it any more.
        tokens_B = torch.where(self.going_B, tokens_B, self.vocabulary.pass_token)
        if self.superko is not None:
            for game in _numbers(self.going_B & ~_is_legal(self.superko, tokens_B)):
                text = "repeats a position, which the model's rules forbid (ko"
                self.warnings.setdefault(game, f"{self._move(game, ply)} {text} {self.rules.ko}).")
            self.superko.play_batch(tokens_B)
        self.shared.play_batch(tokens_B)

    def _move(self, game: int, ply: int) -> str:
        return f"move {ply + 1}: {self.vocabulary.vertex(self.games[game][ply])}"


def _set_up(engine: GPUGoEngine, starts: list[SetUp | None]) -> None:
    """Let games of the engine begin from these positions; None for the empty board."""
    if not any(starts):
        return
    boards, turn = torch.zeros_like(engine.boards[:, :2]), torch.zeros_like(engine.turn)
    for game, start in enumerate(starts):
        if start is not None:
            boards[game], turn[game] = start.boards(), start.turn
    engine.set_position(boards, turn, torch.tensor([start is not None for start in starts]))


def why_illegal(engine: GPUGoEngine, game: int, point: int) -> str:
    """What forbids a point that is illegal in one of the games: ``is occupied``."""
    position, rules = engine.position, engine.rules
    safe = no_suicide(position, rules.capture)
    is_empty, is_safe = (
        bool(unpack(rows)[game].flatten()[point]) for rows in (position.empty, safe)
    )
    if not is_empty:
        return "is occupied"
    if not is_safe and not rules.suicide:
        return "is suicide, which the model's rules forbid"
    if rules.ko == "simple":
        return "retakes a ko at once"
    return f"repeats a position, which the model's rules forbid (ko {rules.ko})"


def _is_legal(engine: GPUGoEngine, tokens_B: Tensor) -> Tensor:
    return engine.get_legal_mask().gather(1, tokens_B.unsqueeze(1)).squeeze(1)


def _numbers(mask_B: Tensor) -> list[int]:
    return mask_B.nonzero().squeeze(1).tolist()
