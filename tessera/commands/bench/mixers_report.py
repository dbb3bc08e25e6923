"""What ``tessera bench mixers`` found, as a person and as a program reads it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tessera.commands.bench.mixers_process import OUT_OF_MEMORY, Asked, Ready
from tessera.commands.table import Cell, Form, table

BASELINE = "mamba"
_COLUMNS: dict[str, Form] = {
    **{"mixer": None, "parameters": ",d", "ms a step": ",.2f"},
    **{"slowest to fastest": "", "of Mamba's time": ".2f", "peak MiB": ",.0f"},
    **{"ready after s": ",.0f", "a step is": 50},
}


@dataclass(frozen=True, slots=True)
class MixerSpeed:
    """A mixer, and what is known of it.

    Attributes:
        mixer: its name.
        ready: None if it did not get so far.
        seconds: of a step, of each run; empty if it was not timed.
        missing: why not.
    """

    mixer: str
    ready: Ready | None = None
    seconds: tuple[float, ...] = ()
    missing: str = ""

    @property
    def step_s(self) -> float | None:
        """Seconds of a step, the median; None if it was not timed."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def lacks_memory(self) -> bool:
        """Whether the memory was too little for it, or for its step to be a CUDA graph."""
        how = "" if self.ready is None else self.ready.step
        return self.missing == OUT_OF_MEMORY or OUT_OF_MEMORY in how

    def in_words(self) -> str:
        """Its figures in a few words."""
        if self.step_s is None:
            return f"not timed: {self.missing}"
        return f"{1000 * self.step_s:,.2f} ms a step"


@dataclass(frozen=True, slots=True)
class MixersReport:
    """Everything one run of the command found.

    Attributes:
        machine: where it ran, in words.
        asked: what was timed.
        speeds: of all mixers.
    """

    machine: str
    asked: Asked
    speeds: tuple[MixerSpeed, ...]

    def lines(self) -> list[str]:
        """The report as a person reads it: the fastest first."""
        asked = self.asked
        precision = "bf16-mixed" if asked.device.startswith("cuda") else "32-true"
        timed = sorted(self._timed(), key=lambda speed: statistics.median(speed.seconds))
        left = [(s.mixer, s.in_words()) for s in self.speeds if s.step_s is None]
        return [
            f"{self.machine}; {precision}",
            f"A training step of {asked.batch_size} sequences of {asked.length} tokens,"
            f" {asked.n_layers} layers of d_model {asked.d_model}, the tokens of a board of"
            f" {asked.board_size}×{asked.board_size}:",
            "",
            *table([*map(self._row, timed), *left], _COLUMNS),
        ]

    def _timed(self) -> Iterator[MixerSpeed]:
        return (speed for speed in self.speeds if speed.seconds)

    def _row(self, speed: MixerSpeed) -> tuple[Cell, ...]:
        assert speed.ready is not None and speed.step_s is not None
        slowest, fastest = 1000 * max(speed.seconds), 1000 * min(speed.seconds)
        spread = f"{slowest:,.2f} to {fastest:,.2f}" if len(speed.seconds) > 1 else "one run"
        return (
            *(speed.mixer, speed.ready.parameters, 1000 * speed.step_s, spread),
            *(self.ratio(speed), speed.ready.peak_mb, speed.ready.seconds, speed.ready.step),
        )

    def ratio(self, speed: MixerSpeed) -> float | None:
        """How many times Mamba's time a step takes; None if one of them was not timed."""
        of_mamba = next((each.step_s for each in self._timed() if each.mixer == BASELINE), None)
        return None if of_mamba is None or speed.step_s is None else speed.step_s / of_mamba

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, with what follows from them."""
        speeds = [
            {**asdict(speed), "step_s": speed.step_s, "of_mamba": self.ratio(speed)}
            for speed in self.speeds
        ]
        return {**asdict(self), "speeds": speeds}
