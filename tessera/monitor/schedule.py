"""How often each kind of measurement is made."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.setting_errors import Problem, SettingError, number, problems_of, whole

_KINDS = ("timing", "game", "state", "memory", "summary", "copies")
_ALLOWED = {
    **{f"{kind}_every": whole(0) for kind in _KINDS},
    "copies_steps": whole(1),
    "copies_time_ratio": number("above 0 and at most 1", lambda ratio: 0 < ratio <= 1),
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps between two samples of each kind, 0 for none; see ``TesseraMonitor``.

    Raises:
        SettingError: with a problem for every figure that is out of range.
    """

    timing_every: int = 1
    game_every: int = 50
    state_every: int = 10
    memory_every: int = 50
    summary_every: int = 100
    copies_every: int = 1000
    copies_steps: int = 3
    copies_time_ratio: float = 0.002

    def __post_init__(self) -> None:
        problems = problems_of(self, _ALLOWED)
        if 0 < self.copies_every < self.copies_steps:
            must = f"be 0 or at least copies_steps (={self.copies_steps})"
            problems.append(Problem("copies_every", self.copies_every, must, "copies_steps"))
        if problems:
            raise SettingError(*problems)

    def every(self, kind: str) -> int:
        """Steps between two samples of ``kind``; 0 for none."""
        return getattr(self, f"{kind}_every")

    def is_due(self, kind: str, step: int) -> bool:
        """Whether ``kind`` is sampled at this step, counted from 1."""
        every = self.every(kind)
        return every > 0 and step % every == 0
