"""How often each kind of measurement is made."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps between two samples of each kind, 0 for none; see ``TesseraMonitor``.

    Raises:
        ValueError: one line for every figure that is out of range, in the words of the YAML.
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
        least = {field.name: 0 for field in fields(self) if field.name.endswith("_every")}
        problems = [
            f"monitor.{name} must be at least {low}, got {getattr(self, name)}."
            for name, low in {**least, "copies_steps": 1}.items()
            if getattr(self, name) < low
        ]
        if 0 < self.copies_every < self.copies_steps:
            problems.append(
                "monitor.copies_every must be 0 or at least monitor.copies_steps "
                f"(={self.copies_steps}), got {self.copies_every}."
            )
        if not 0 < self.copies_time_ratio <= 1:
            problems.append(
                "monitor.copies_time_ratio must be above 0 and at most 1, "
                f"got {self.copies_time_ratio}."
            )
        if problems:
            raise ValueError("\n".join(problems))

    def every(self, kind: str) -> int:
        """Steps between two samples of ``kind``; 0 for none."""
        return getattr(self, f"{kind}_every")

    def is_due(self, kind: str, step: int) -> bool:
        """Whether ``kind`` is sampled at this step, counted from 1."""
        every = self.every(kind)
        return every > 0 and step % every == 0
