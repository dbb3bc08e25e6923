"""Gumbel AlphaZero's arithmetic: which moves a search looks at, how often, and what it learns.

Names are the paper's where they stand in brackets: completed Q, the mixed value (v_mix), sigma, the
improved policy (pi'). Values are those of the player to move, -1 to 1, not rescaled.
Source: Danihelka, Guez, Schrittwieser and Silver, "Policy improvement by planning with Gumbel"
(ICLR 2022); google-deepmind/mctx is its authors' code.

Shapes: B games, A moves.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tessera.go.randomness import SEARCH, random_words

_FRACTION_BITS = 53  # of a float64
_LEAST_SCORE = -1e9  # of a move that is looked at, above that of one that is not


class Moves(NamedTuple):
    """What is known of the moves at one position of each game.

    Attributes:
        log_priors: (B, A) float32, of the prior policy in nats; minus infinity for illegal moves.
        visits: (B, A) float32, how often each was tried (N).
        q: (B, A) float32, the mean value of those that were (Q); any numbers elsewhere.
        raw: (B,) float32, the evaluator's value of the position itself.
    """

    log_priors: Tensor
    visits: Tensor
    q: Tensor
    raw: Tensor


class Sigma(NamedTuple):
    """How much a value weighs beside a logit: (max_visit + the most visits) · value_scale (sigma).

    Attributes:
        value_scale: the paper's c_scale.
        max_visit: the paper's c_visit.
    """

    value_scale: float
    max_visit: float

    def weighed(self, moves: Moves) -> Tensor:
        """Sigma of the completed Q (B, A): that of an untried move is the mixed value."""
        scale = (self.max_visit + moves.visits.amax(1, keepdim=True)) * self.value_scale
        return scale * completed(moves)


def completed(moves: Moves) -> Tensor:
    """The completed Q (B, A): where a move was not tried, the mixed value (v_mix) of the position.

    That is the mean of the evaluator's value and, once for each visit, of the tried moves' Q
    weighed by their priors.
    """
    tried = moves.visits > 0
    # As mctx has it, so that tried moves without a prior weigh something together.
    priors = moves.log_priors.exp().clamp(min=torch.finfo(torch.float32).tiny) * tried
    total, share = moves.visits.sum(1), priors.sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    mean = (priors * torch.where(tried, moves.q, 0.0)).sum(1) / share
    mixed = (moves.raw + total * mean) / (1 + total)
    return torch.where(tried, moves.q, mixed.unsqueeze(1))


def improved(moves: Moves, sigma: Sigma) -> Tensor:
    """The improved policy (B, A) (pi'): softmax(logits + sigma(completed Q))."""
    return (moves.log_priors + sigma.weighed(moves)).softmax(1)


def next_inside(moves: Moves, sigma: Sigma) -> Tensor:
    """The move (B,) int64 below the root that brings the visits nearest to the improved policy.

    argmax of pi' - N / (1 + sum of N), the first one among equals.
    """
    total = moves.visits.sum(1, keepdim=True)
    scores = improved(moves, sigma) - moves.visits / (1 + total)
    return scores.masked_fill(moves.log_priors == -torch.inf, -torch.inf).argmax(1)


def next_at_root(moves: Moves, sigma: Sigma, noise: Tensor, wanted: Tensor) -> Tensor:
    """The likeliest move (B,) int64 of those with so many visits: noise + logits + sigma(Q).

    Args:
        moves: at the root.
        sigma: see ``Sigma``.
        noise: (B, A) float32, Gumbel's.
        wanted: (B,) float32, the visits that a move must have had.
    """
    logits = moves.log_priors - moves.log_priors.amax(1, keepdim=True)
    scores = (noise + logits + sigma.weighed(moves)).clamp(min=_LEAST_SCORE)
    allowed = (moves.visits == wanted.unsqueeze(1)) & (moves.log_priors > -torch.inf)
    return scores.masked_fill(~allowed, -torch.inf).argmax(1)


def gumbel_noise(words: Tensor, num_moves: int) -> Tensor:
    """Draws of the standard Gumbel distribution (B, A) float32, a pure function of the words.

    Args:
        words: (B,) int64, 64 random bits for each game.
        num_moves: A.
    """
    numbers = words.unsqueeze(1).expand(-1, num_moves)
    bits = random_words(0, numbers, torch.arange(num_moves, device=words.device), SEARCH)
    whole = bits >> (64 - _FRACTION_BITS) & ((1 << _FRACTION_BITS) - 1)
    shares = (whole.double() + 0.5) * 2.0**-_FRACTION_BITS  # never 0 and never 1
    return -(-shares.log()).log().float()


def visits_in_turn(num_considered: int, num_simulations: int) -> list[int]:
    """Sequential halving: at each simulation, the visits that the move to be tried has had.

    The considered moves are tried equally often, then the better half of them, until two are left;
    every round has as many simulations.

    Args:
        num_considered: moves at the beginning.
        num_simulations: in all.
    """
    if num_considered <= 1:
        return list(range(num_simulations))
    rounds = math.ceil(math.log2(num_considered))
    visits, left, turn = [0] * num_considered, num_considered, list[int]()
    while len(turn) < num_simulations:
        for _ in range(max(1, num_simulations // (rounds * left))):
            turn += visits[:left]
            visits[:left] = [number + 1 for number in visits[:left]]
        left = max(2, left // 2)
    return turn[:num_simulations]
