"""What the trials of ``tessera check`` measured, as records; they need no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.commands.check.training_trial import TrainingSettings

MEAN_OF = 20  # steps whose mean loss is compared with the first

Tell = Callable[[float], None]  # is called with the share of a trial that is done, 0 to 1


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is played and trained.

    Attributes:
        board_size: of the games of criteria 1 and 5.
        num_batches: of criterion 1, and again of criterion 5.
        whole_games: in a batch of criterion 1.
        long_games: in a batch of criterion 5.
        plies: moves in each place of a batch of criterion 5.
        d_model: of the model that plays them.
        training: the training that criteria 2, 3 and 4 look at.
    """

    training: TrainingSettings
    board_size: int = 19
    num_batches: int = 10
    whole_games: int = 100
    long_games: int = 8
    plies: int = 300
    d_model: int = 256


@dataclass(frozen=True, slots=True)
class PlayedBatch:
    """A batch of games that was played.

    Attributes:
        name: which games, in words.
        num_games: how many.
        plies: moves and passes played in all of them.
        faults: what was wrong; a batch without any counts.
        figures: whatever else was measured in it.
    """

    name: str
    num_games: int
    plies: int
    faults: tuple[str, ...]
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MonitorReading:
    """What the monitor held at the end of a training.

    Attributes:
        latest: the last value of every metric that was read.
        why_absent: why the others were not.
        num_transfers: copies between host and device that were timed.
        mean_ms: their mean time.
        max_ms: the longest of them.
        unowned_copies: copies that nobody in the program asked for, as the profiler named them.
        num_profiled_steps: steps in which it looked.
    """

    latest: Mapping[str, float]
    why_absent: Mapping[str, str]
    num_transfers: int
    mean_ms: float
    max_ms: float
    unowned_copies: tuple[str, ...]
    num_profiled_steps: int


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A training that was made to be looked at.

    Attributes:
        name: what was trained, in words.
        device: "cpu" or "cuda".
        vocab_size: tokens.
        max_steps: steps it was allowed.
        losses: nats, of every step that was made.
        floor_nats: the least loss that any model can reach, mean over the last steps.
        excess_nats: how far the model is from it, mean over the last steps.
        monitor: what the monitor read; None if the training ended before it could.
        fault: what ended it before its time; empty if nothing did.
    """

    name: str
    device: str
    vocab_size: int
    max_steps: int
    losses: tuple[float, ...]
    floor_nats: float
    excess_nats: float
    monitor: MonitorReading | None
    fault: str = ""

    @property
    def last_loss(self) -> float:
        """See ``last_loss``."""
        return last_loss(self.losses)

    @property
    def fall(self) -> float:
        """How far the last loss is below the first, as a share of the first; NaN without either."""
        return 1 - self.last_loss / self.losses[0] if self.losses else math.nan


def last_loss(losses: Sequence[float]) -> float:
    """Mean of the last losses in nats; NaN where there are fewer than ``MEAN_OF``."""
    last = losses[-MEAN_OF:]
    return sum(last) / MEAN_OF if len(last) == MEAN_OF else math.nan


def described(error: Exception) -> str:
    """An error in one line."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
