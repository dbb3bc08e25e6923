"""Whether a model means its probabilities: is a move given 10 % played 10 % of the time?

Shapes: B sequences, L positions, V tokens, K bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tessera.data import GameBatch
from tessera.play.intervals import wilson
from tessera.transfers import to_host

CALIBRATION_METRICS = ("move_ece", "move_ece_noise", "top_ece", "top_ece_noise")

# Lower bounds of the bins. Of all moves, of which most are unlikely, they are about evenly
# spaced in log-odds; of the likeliest move there are 15 of one width, as in Guo et al.
MOVE_BOUNDS = (
    *(0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.99),
)
TOP_BOUNDS = tuple(nth / 15 for nth in range(15))

_ROWS = ("forecasts", "given", "played", "variance")
_SETS = ("moves", "tops")
_NUMBERS_AT_ONCE = 2**22  # of a batch's positions and moves, so that little memory is taken


class CalibrationMetrics(Metric):
    """Forecasts of moves by how likely they were said to be, and how many came true.

    A forecast is the probability of one legal move in one position, as the map shows it: of the
    legal moves alone, with ``skip_settled`` without settled points. It came true if the move was
    played. Positions where none was played (a game's end, PAD) hold no forecast. ``compute`` gives
    what ``Calibration`` is made of.

    Nothing waits for the GPU before ``compute``, and the same batches give the same bits.

    Args:
        kwargs: those of every ``torchmetrics.Metric``, such as ``sync_on_compute``.
    """

    full_state_update = False
    needs = ("legal",)  # of the optional tables
    moves: Tensor
    tops: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, bounds in zip(_SETS, (MOVE_BOUNDS, TOP_BOUNDS), strict=True):
            zeros = torch.zeros(len(_ROWS), len(bounds), dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
            # Here once, because making them where they are needed would copy them to the GPU.
            inner = torch.tensor(bounds[1:], dtype=torch.float32)
            self.register_buffer(f"bounds_of_{name}", inner, persistent=False)

    def update(self, logits: Tensor, batch: GameBatch) -> None:
        """Add a batch.

        Args:
            logits: (B, L, V).
            batch: with legal points; without them nothing is added.
        """
        if batch.legal is None:
            return
        rows = max(1, _NUMBERS_AT_ONCE // logits[0].numel())
        for at in range(0, len(logits), rows):
            some = slice(at, at + rows)
            self._add(logits[some], batch.rows(some))

    def _add(self, logits: Tensor, batch: GameBatch) -> None:
        num_moves = logits.shape[-1] - 2  # all but PAD and EOS
        counted = batch.targets < num_moves
        legal = batch.legal_tokens()[..., :num_moves]
        scores = logits[..., :num_moves].float().masked_fill(~legal, -torch.inf)
        chances = scores.softmax(-1)
        target = batch.targets.clamp(max=num_moves - 1).unsqueeze(-1)
        top, best = chances.max(-1, keepdim=True)
        counted = counted.unsqueeze(-1)
        self.moves += self._sums("moves", chances, legal & counted, target, counted)
        self.tops += self._sums("tops", top, counted, torch.zeros_like(best), best == target)

    def _sums(
        self, name: str, chances: Tensor, is_forecast: Tensor, place: Tensor, came: Tensor
    ) -> Tensor:
        """The rows (4, K) of these positions.

        Args:
            name: of the bins.
            chances: (B, L, M) float32; may be no numbers where there is no forecast.
            is_forecast: (B, L, M) bool.
            place: (B, L, 1) int64, of the forecast that may have come true.
            came: (B, L, 1) bool, whether it has.
        """
        bounds = getattr(self, f"bounds_of_{name}")
        bins = torch.bucketize(chances, bounds, right=True, out_int32=True)
        bins = bins.masked_fill_(~is_forecast, -1)
        bin_played = bins.gather(-1, place).masked_fill_(~came, -1)
        sums = []
        # A sum of every bin over all forecasts: scattering would add them in any order.
        for nth in range(len(bounds) + 1):
            member = bins == nth
            # At most one move of a bin is played in a position: with the probability of them all.
            chance = torch.where(member, chances, 0.0).sum(-1).double()
            variance = (chance * (1 - chance)).clamp_(min=0)
            values = (member.sum(), chance.sum(), (bin_played == nth).sum(), variance.sum())
            sums.append(torch.stack([value.double() for value in values]))
        return torch.stack(sums, 1)

    def compute(self) -> Tensor:
        """(2, 4, K) float64 on the host: of all moves, and of the likeliest alone."""
        return to_host(torch.stack([self.moves, self.tops]), "validation")


@dataclass(frozen=True, slots=True)
class Bin:
    """Forecasts of about the same probability.

    Attributes:
        low: the least probability of the bin.
        high: the least of the next one, 1 of the last.
        forecasts: how many there are.
        given: the sum of their probabilities, so many are expected to come true.
        played: how many came true.
        variance: of that number, if all were true to their word.
    """

    low: float
    high: float
    forecasts: int
    given: float
    played: int
    variance: float

    @property
    def mean(self) -> float:
        """The mean probability."""
        return self.given / self.forecasts

    @property
    def frequency(self) -> float:
        """The part that came true."""
        return self.played / self.forecasts

    @property
    def interval(self) -> tuple[float, float]:
        """What the part that comes true may be in the long run, with 95 % certainty.

        It is for forecasts that do not depend on each other. Of a position's moves one is played,
        so this is rather too wide than too narrow.
        """
        return wilson(self.frequency, self.forecasts)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the forecasts of many positions were worth.

    ==================  ============================================================================
    ``move_ece``        ½ Σ |given - played| / positions over the bins of all legal moves: the part
                        of the probability that lies in a wrong bin, 0 to 1. Of two moves with p and
                        1 - p it is the calibration error of p
    ``top_ece``         Σ |given - played| / positions over the bins of the likeliest move: how far
                        the confidence is from how often that move is played
    ``…_noise``         the same, expected of a model whose probabilities are true, on as many
                        positions: less than that is luck, and much more is error
    ==================  ============================================================================

    Sources: Naeini, Cooper and Hauskrecht 2015 and Guo et al. 2017 for ``top_ece``; Kull et al.
    2019 and Nixon et al. 2019 for all classes. Their mean over forecasts, which is ``2 · move_ece ·
    positions / forecasts``, is small whatever a model says, as most moves are hardly ever played.

    Attributes:
        moves: the bins of all legal moves that hold any.
        tops: those of the likeliest move in each position.
    """

    moves: tuple[Bin, ...]
    tops: tuple[Bin, ...]

    @staticmethod
    def of(sums: Tensor) -> Calibration | None:
        """From what the metric computed; None if there was no move."""
        sets = [
            tuple(
                Bin(low, high, int(count), given, int(played), variance)
                for low, high, (count, given, played, variance) in zip(
                    bounds, (*bounds[1:], 1.0), rows.t().tolist(), strict=True
                )
                if count
            )
            for bounds, rows in zip((MOVE_BOUNDS, TOP_BOUNDS), sums, strict=True)
        ]
        return Calibration(*sets) if sets[1] else None

    @property
    def positions(self) -> int:
        """How many moves were played."""
        return sum(each.forecasts for each in self.tops)

    def metrics(self) -> dict[str, float]:
        """The figures by name, see ``CALIBRATION_METRICS``."""
        found = []
        for bins, weight in ((self.moves, 0.5), (self.tops, 1.0)):
            gaps = sum(abs(each.given - each.played) for each in bins)
            noise = sum(_expected_gap(each.variance) for each in bins)
            found += [weight * gaps / self.positions, weight * noise / self.positions]
        return dict(zip(CALIBRATION_METRICS, found, strict=True))


def _expected_gap(variance: float) -> float:
    """How far a sum of hits of such a variance is from its expectation on average."""
    # Of many hits that of a normal distribution; of fewer than one it is never more than the other.
    return min(math.sqrt(2 * variance / math.pi), 2 * variance)
