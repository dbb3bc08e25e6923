"""How a game stands if it ended now: whose the points are, which stones are dead, the board."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.go import GPUGoEngine, play_out
from tessera.go.bitboard import unpack
from tessera.play.chains import chains_of, is_left_alone, liberties
from tessera.play.session import Session
from tessera.transfers import to_host

PLAYOUTS = 64
# It is the faster one by a third, and agrees with GNU Go on finished games as often.
_PLAYER = "uniform"
_CLEAR = 0.5  # of an ownership: a point that is the same player's in three of four playouts
# Of a chain: neither colour has it in more than seven of ten playouts. Chains that were tried had
# up to 0.27 in sekis (1,000 playouts), those that can be killed from within 0.5 and more.
_UNDECIDED = 0.4

_LETTERS = {0: ".", 1: "X", -1: "O"}


@dataclass(frozen=True, slots=True)
class Ending:
    """Whose the points are and which stones are dead; all (n, n), on the CPU.

    Attributes:
        stones: int64, +1 black, -1 white, 0 empty, as they stand.
        owners: int64, +1 black's point, -1 white's, 0 neither's; dead stones are captured.
        dead: bool, True on dead stones.
        seki: bool, True on the stones of a seki.
    """

    stones: Tensor
    owners: Tensor
    dead: Tensor
    seki: Tensor

    def margin(self, komi: float) -> float:
        """By how many points black wins."""
        return int(self.owners.sum()) - komi

    def score(self, komi: float) -> str:
        """The result as the protocol writes it: ``B+3.5``, ``W+10`` or ``0``."""
        margin = self.margin(komi)
        return f"{'B' if margin > 0 else 'W'}+{abs(margin):g}" if margin else "0"

    def chains(self, status: str) -> list[list[int]]:
        """The chains of stones that are ``alive``, ``dead`` or in ``seki``, as tokens."""
        alive = (self.stones != 0) & ~self.dead & ~self.seki
        wanted = {"alive": alive, "dead": self.dead, "seki": self.seki}[status]
        colours = torch.where(wanted, self.stones, 0).flatten().tolist()
        return chains_of(colours, len(self.stones))


def ending_of(session: Session, num_playouts: int = PLAYOUTS) -> Ending:
    """How the session's game stands if it ended now; the same each time it is asked.

    Settled points are their owner's, with the dead stones there. Of the other chains those are dead
    whose points the other player has at the end of most playouts, except in a seki: a chain that
    nobody wants to fill the liberties of, and that each player has at times. Dead stones are taken
    off, and the rest is counted as area. Empty points which both colours touch belong to the one
    who has them in three of four playouts, and beside a seki to nobody.

    Args:
        session: the game.
        num_playouts: games of the uniform player, half of them with each player to move; 0 for
            none, so that stones which are not settled are alive.
    """
    engine, stones = session.engine, session.stones
    settled = settled_of(engine)
    settled = torch.zeros_like(stones) if settled is None else settled.long()
    is_open = settled == 0
    dead, seki = stones * settled < 0, torch.zeros_like(stones, dtype=torch.bool)
    owned = torch.zeros(stones.shape, dtype=torch.float64)
    if num_playouts and bool(is_open.any()):
        owned = _owned(engine, num_playouts)
    colours, size = stones.flatten().tolist(), len(stones)
    beside_seki: set[int] = set()
    for chain in chains_of(colours, size):
        kept = float(owned.flatten()[chain].mean()) * colours[chain[0]]
        if not is_open.flatten()[chain[0]]:
            continue
        # A settled chain is not asked about, so that no playout is against what is certain.
        if abs(kept) < _UNDECIDED and num_playouts and is_left_alone(chain, colours, size):
            seki.view(-1)[chain] = True
            beside_seki |= liberties(chain, colours, size)
        elif kept < 0:
            dead.view(-1)[chain] = True
    left = torch.where(dead, 0, stones)
    area = _area(engine, left)
    leaning = owned.sign().long() * (owned.abs() >= _CLEAR)
    leaning.view(-1)[list(beside_seki)] = 0
    contested = (left == 0) & (area == 0)
    owners = torch.where(contested, leaning, area)
    return Ending(stones, torch.where(is_open, owners, settled), dead, seki)


def settled_of(engine: GPUGoEngine) -> Tensor | None:
    """The settled points of an engine's first game, (n, n) int32 on the CPU."""
    if engine.rules.capture == "single":
        return None
    settled = engine.settled_points()
    owners = unpack(settled.black)[:1].int() - unpack(settled.white)[:1].int()
    return to_host(owners, "session")[0]


def _owned(engine: GPUGoEngine, num_playouts: int) -> Tensor:
    """(n, n) float64, +1 where a point is black's at the end of all playouts, -1 white's."""
    games = deepcopy(engine)
    games.keep(torch.zeros(2, dtype=torch.int64))
    # Nobody is to move any more: in one of the two the turn is the other player's.
    vocabulary = games.vocabulary
    games.go_on()
    games.play_batch(torch.tensor([vocabulary.pad_token, vocabulary.pass_token]))
    games.go_on()
    found = play_out(games, -(-num_playouts // 2), player=_PLAYER)
    return to_host(found.ownership.mean(0), "session")


def _area(engine: GPUGoEngine, stones: Tensor) -> Tensor:
    """(n, n) int64, the owners of the points by the engine's rules, of stones on a new board."""
    counted = deepcopy(engine)
    counted.set_position(torch.stack([stones > 0, stones < 0])[None], counted.turn)
    return to_host(counted.ownership()[0].long(), "session")


def score(session: Session, komi: float, num_playouts: int = PLAYOUTS) -> str:
    """The result as the protocol writes it, see ``ending_of``."""
    return ending_of(session, num_playouts).score(komi)


def board_text(session: Session) -> list[str]:
    """The board in letters, a line for each row: X is black, O white; coordinates around it."""
    size, vertex = session.board_size, session.vocabulary.vertex
    columns = "   " + " ".join(vertex(column)[0] for column in range(size))
    lines = [columns]
    for row, stones in enumerate(session.stones.tolist()):
        points = " ".join(_LETTERS[stone] for stone in stones)
        lines.append(f"{size - row:2} {points} {size - row}")
    return [*lines, columns]
