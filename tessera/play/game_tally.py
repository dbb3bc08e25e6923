"""Counts of what happens in games that are played for learning, on the device.

Shapes: B slots, M rows of the ring, P = n² points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tessera.go import GPUGoEngine
from tessera.go.randomness import mix
from tessera.play.position_ring import Ended
from tessera.transfers import to_host

_BINS = 10  # of the chance to win
_HASHES = 4096  # of the newest games that are compared
_SUMS = (
    *("plies", "passes", "entropy", "gain", "games", "length", "black_wins", "score"),
    *("at_limit", "known", "brier", "wins", "values", "value_squares"),
)
_GOLDEN = -0x61C8864680B583EB


class GameTally:
    """Sums since they were last read; nothing waits for the device before ``read``.

    Args:
        num_slots: B.
        max_moves: plies of the longest game.
        device: where.

    Attributes:
        tensors: by name.
    """

    def __init__(self, num_slots: int, max_moves: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.tensors = {
            "sums": zeros(len(_SUMS)),
            "bins": zeros(3, _BINS),
            "hashes": zeros(_HASHES + 1, dtype=torch.int64),
            "hashed": zeros(dtype=torch.int64),
        }
        self._max_moves = max_moves
        self._places = torch.arange(max_moves, device=device)
        self._bounds = torch.arange(_BINS, device=device)[:, None, None]

    def ply(
        self, logits: Tensor, weights: Tensor, allowed: Tensor, moves: Tensor, counted: Tensor
    ) -> None:
        """Count a ply of all slots.

        Args:
            logits: (B, P + 1) of the model.
            weights: (B, P + 1), what the search would play.
            allowed: (B, P + 1) bool, what it considers.
            moves: (B,) int64, what is played.
            counted: (B,) bool, False where it is another's choice.
        """
        logs = logits.float().masked_fill(~allowed, -math.inf).log_softmax(1)
        logs = logs.masked_fill(~allowed, 0)
        entropy = -(logs.exp() * logs * allowed).sum(1)
        gain = (weights * (weights.clamp(min=1e-9).log() - logs) * allowed).sum(1)
        passes = moves == logits.shape[1] - 1
        self._add(
            0, [torch.where(counted, each.double(), 0).sum() for each in (passes, entropy, gain)]
        )
        self.tensors["sums"][0] += counted.sum()

    def _add(self, after: int, values: list[Tensor]) -> None:
        self.tensors["sums"][after + 1 : after + 1 + len(values)] += torch.stack(values)

    def end(self, engine: GPUGoEngine, over: Tensor, score: Tensor, ended: Ended) -> None:
        """Count the games that are over, before others begin in their place."""
        is_won = (score > 0).double() + (score == 0).double() / 2
        at_limit = engine.passes < 2
        values = (torch.ones_like(score), engine.move_number, is_won, score, at_limit)
        chances = (ended.values.double() + 1) / 2
        wins = ended.wins.double()
        known = (
            *(torch.ones_like(wins), (chances - wins) ** 2, wins),
            *(chances, chances**2),
        )
        self._add(
            3,
            [torch.where(over, each.double(), 0).sum() for each in values]
            + [torch.where(ended.is_own, each, 0).sum() for each in known],
        )
        which = (chances * _BINS).long().clamp(0, _BINS - 1)
        member = ended.is_own & (which == self._bounds)
        for nth, value in enumerate((torch.ones_like(wins), chances, wins)):
            self.tensors["bins"][nth] += torch.where(member, value, 0).sum((1, 2))
        played = engine.history.long() + 1 + self._places * 512
        is_played = self._places < engine.move_number.unsqueeze(1)
        hashes = torch.where(is_played, mix(played * _GOLDEN), 0).sum(1)
        # Those of games that go on are written to a place that nobody reads.
        places = (self.tensors["hashed"] + over.cumsum(0) - 1) % _HASHES
        self.tensors["hashes"][torch.where(over, places, _HASHES)] = hashes
        self.tensors["hashed"] += over.sum()

    def forget(self) -> None:
        """Begin all sums anew; which games are known stays."""
        for name in ("sums", "bins"):
            self.tensors[name].zero_()

    def read(self, owner: str) -> dict[str, float]:
        """The figures since the last time, by name; what could not be measured is absent.

        ================  ==========================================================================
        ``entropy``       of the model's policy over the moves it considers, nats
        ``gain``          how far the search's policy is from the model's, nats
        ``pass_rate``     share of the plies that are passes
        ``game_length``   plies of a finished game
        ``black_wins``    share of the games, a draw is half of one
        ``score``         black's, in points, on average
        ``at_limit``      share of the games that the move limit ended
        ``repeated``      share of the newest 4,096 games that are another one of them again
        ``value_brier``   (q - w)², q the search's chance to win when the position was played, w how
                          the game ended: nothing of it had been learnt from
        ``value_base``    the same of a player that always says how often the mover wins
        ``value_ece``     how far q is from w, over ten bins of q, weighted by their sizes
        ``value_spread``  standard deviation of q; 0 for a head that answers one number
        ================  ==========================================================================

        Args:
            owner: for whom the one copy is made, see ``tessera.transfers``.
        """
        tensors = self.tensors
        flat = torch.cat([tensors["sums"], tensors["bins"].flatten()])
        hashes = tensors["hashes"][:-1].sort().values
        repeats = (hashes[1:] == hashes[:-1]) & (hashes[1:] != 0)
        told = torch.stack([tensors["hashed"].clamp(max=_HASHES), repeats.sum()]).double()
        host = to_host(torch.cat([flat, told]), owner)
        sums = dict(zip(_SUMS, host.tolist(), strict=False))
        _, chances, wins = host[len(_SUMS) : -2].view(3, _BINS)
        self.forget()
        found: dict[str, float] = {}
        if plies := sums["plies"]:
            found |= {"entropy": sums["entropy"] / plies, "gain": sums["gain"] / plies}
            found["pass_rate"] = sums["passes"] / plies
        if games := sums["games"]:
            found["game_length"] = sums["length"] / games
            found |= {name: sums[name] / games for name in ("black_wins", "score", "at_limit")}
        if host[-2] >= 2:
            found["repeated"] = float(host[-1] / host[-2])
        if known := sums["known"]:
            share, mean = sums["wins"] / known, sums["values"] / known
            spread = max(0.0, sums["value_squares"] / known - mean**2)
            found |= {"value_brier": sums["brier"] / known, "value_base": share * (1 - share)}
            found["value_ece"] = float((chances - wins).abs().sum() / known)
            found["value_spread"] = math.sqrt(spread)
        return found
