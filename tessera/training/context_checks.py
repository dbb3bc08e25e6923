"""What the vectors of a recurrence hold, and how they settle: New-LLM's checks, made measurable.

A recurrence is ``c_i = F(c_{i−1}, e_i)`` along a game. Each function is of vectors alone, whatever
made them; ``context_diagnostics.py`` asks them of models. What the published thresholds are worth
stands in ``context_checks.md``.

Shape suffixes: B games, L positions, C numbers of a vector, T vectors, K passes or sweeps.
Source: New-LLM at 87ba918 ("identity check", "convergence rate", "convergence check").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from tessera.training.effective_rank import chosen_rows, effective_rank

CONTROL = "untrained_"  # what names of figures of an untrained model begin with
CONVERGED_BELOW = 0.03  # mean squared change of a vector's numbers, which have variance 1 there
_DEGENERATE_BELOW = 0.1
_COPY_ABOVE = 0.95
_FLAT, _STEADY = 1e-3, 1e-2


class Recurrence(Protocol):
    """A recurrence over given games, from the first position to the last.

    Attributes:
        counted_BL: (B, L) bool, True where a position is one of the game.
    """

    counted_BL: Tensor

    def sequential(self, memory: Any = None) -> tuple[Tensor, Any]:
        """The vectors (B, L, C), and what is remembered behind each game's last position.

        Args:
            memory: before the first position, as it was returned; None means a new game.
        """


@runtime_checkable
class SweptRecurrence(Recurrence, Protocol):
    """One whose positions can also be computed all at once, from a guess of those before them."""

    def sweep(self, previous_BLC: Tensor) -> Tensor:
        """The vectors (B, L, C), each from the previous sweep's one of the position before it."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """How many directions vectors point in, see ``effective_rank``.

    Attributes:
        rank: of the vectors as they are.
        centred: of what is left without their mean.
        rows: how many vectors were looked at; ranks of other numbers cannot be compared.
        width: numbers of each, which no rank exceeds.
    """

    rank: float
    centred: float
    rows: int
    width: int


def ranks_of(vectors_TC: Tensor, most: int, seed: int = 0) -> Ranks:
    """The ranks of the same rows each time.

    Args:
        vectors_TC: at least one.
        most: how many of them are looked at.
        seed: of the choice.
    """
    rows = chosen_rows(len(vectors_TC), most, seed)
    chosen = vectors_TC[rows.to(vectors_TC.device)].cpu()
    rank, centred = (float(effective_rank(chosen, without)) for without in (False, True))
    return Ranks(rank, centred, len(chosen), chosen.shape[1])


@dataclass(frozen=True, slots=True)
class Identity:
    """Whether vectors say anything, and anything but what was put in.

    Attributes:
        norm: mean length of the vectors.
        spread: mean length of what is left without their mean.
        cosine: with the input of the same position, in the mean; None if the widths differ.
    """

    norm: float
    spread: float
    cosine: float | None

    @property
    def is_degenerate(self) -> bool:
        """The published test: about zero, or about the same everywhere."""
        return self.norm < _DEGENERATE_BELOW or self.spread < _DEGENERATE_BELOW

    @property
    def is_copy(self) -> bool:
        """The published warning: each about the input itself."""
        return self.cosine is not None and self.cosine > _COPY_ABOVE

    @property
    def spread_ratio(self) -> float:
        """The spread over the norm: near 0 where all are the same, whatever their size."""
        return self.spread / self.norm if self.norm > 0 else 0.0


def identity_of(vectors_TC: Tensor, inputs_TC: Tensor | None = None) -> Identity:
    """The identity check.

    Args:
        vectors_TC: at least one.
        inputs_TC: (T, …) what was put in at the same positions, if that is known.
    """
    vectors_TC = vectors_TC.double()
    apart = vectors_TC - vectors_TC.mean(0)
    norm, spread = (float(each.norm(dim=1).mean()) for each in (vectors_TC, apart))
    cosine = None
    if inputs_TC is not None and inputs_TC.shape == vectors_TC.shape:
        cosine = float(F.cosine_similarity(vectors_TC, inputs_TC.double(), dim=1).mean())
    return Identity(norm, spread, cosine)


def change(before_BLC: Tensor, after_BLC: Tensor, counted_BL: Tensor) -> Tensor:
    """How much each vector has changed, (B, L): mean square, over the mean square of them all.

    Of vectors with variance 1, such as those of a LayerNorm, it is the published one, which is not
    divided by anything: 0 for the same, 1 if zero was in their place, 2 for independent ones.
    """
    before, after = before_BLC.double(), after_BLC.double()
    scale = after[counted_BL].square().mean()
    found: Tensor = (after - before).square().mean(-1) / scale.where(scale > 0, 1.0)
    return found


def converged_ratio(change_BL: Tensor, counted_BL: Tensor) -> float:
    """The convergence rate: which share of positions has changed by less than 0.03."""
    return float((change_BL[counted_BL] < CONVERGED_BELOW).double().mean())


@torch.no_grad()
def by_sweep(recurrence: SweptRecurrence, sweeps: int) -> list[tuple[float, float]]:
    """The convergence rate by sweep, and the truth beside it.

    Sweep 0 is zero everywhere. After k sweeps the first k positions are exact, so that games of L
    positions need no more than L.

    Returns:
        K pairs: which share of positions the sweep has changed by less than 0.03, and which share
        is that near to the sequential pass.
    """
    truth, _ = recurrence.sequential()
    counted, previous = recurrence.counted_BL, torch.zeros_like(truth)
    found = []
    for _ in range(sweeps):
        swept = recurrence.sweep(previous)
        pairs = ((previous, swept), (swept, truth))
        found.append(tuple(converged_ratio(change(*pair, counted), counted) for pair in pairs))
        previous = swept
    return [(changed, near) for changed, near in found]


@torch.no_grad()
def repeated(recurrence: Recurrence, passes: int = 10) -> list[Tensor]:
    """How much each pass has changed every vector, K − 1 of (B, L).

    Each pass reads the same games again and begins with what the one before it remembered.
    """
    found, previous, memory = [], None, None
    for _ in range(passes):
        vectors, memory = recurrence.sequential(memory)
        if previous is not None:
            found.append(change(previous, vectors, recurrence.counted_BL))
        previous = vectors
    return found


def by_token(change_BL: Tensor, counted_BL: Tensor) -> Tensor:
    """The mean change at every position, (L,), over the games that have it; 0 where none has.

    Of the first two passes it is how well the start of a game is remembered: they differ in nothing
    but what they began with.
    """
    games = counted_BL.sum(0)
    total = change_BL.masked_fill(~counted_BL, 0).sum(0)
    return total / games.clamp(min=1)


def memory_tokens(change_L: Tensor) -> int | None:
    """After how many tokens the start has no part of 0.03 any more; None if it never ends."""
    above = (change_L >= CONVERGED_BELOW).nonzero().flatten()
    if not len(above):
        return 0
    last = int(above[-1]) + 1
    return None if last == len(change_L) else last


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ten passes are said to show.

    Attributes:
        word: CONVERGING, CONVERGED, DIVERGING or UNSTABLE.
        slope: of the straight line through the mean changes, by pass.
        deviation: their standard deviation.
    """

    word: str
    slope: float
    deviation: float

    @property
    def code(self) -> int:
        """0 converged, −1 converging, 1 diverging, 2 unstable: curves have no words."""
        return {"CONVERGED": 0, "CONVERGING": -1, "DIVERGING": 1, "UNSTABLE": 2}[self.word]


def verdict(changes: Sequence[float]) -> Verdict:
    """The published verdict on the mean change of each pass, of which there are two at least."""
    values = torch.tensor(list(changes), dtype=torch.float64)
    steps = torch.arange(len(values), dtype=torch.float64)
    off = steps - steps.mean()
    slope = float((off * values).sum() / off.square().sum())
    deviation = float(values.std(correction=0))
    if slope < -_FLAT:
        word = "CONVERGING"
    elif slope > _FLAT:
        word = "DIVERGING"
    else:
        word = "CONVERGED" if deviation < _STEADY else "UNSTABLE"
    return Verdict(word, slope, deviation)
