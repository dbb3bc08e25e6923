"""What ``tessera check`` found: a table for a person, plain values for a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from tessera.commands.check.criteria import Finding
from tessera.commands.table import table

_COLUMNS = {"criterion": None, "measured": 60, "wanted": 32, "pass": 14}
_MARKS = {"passed": "yes", "failed": "NO", "not measurable here": "not measurable here"}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run of ``check`` found.

    Attributes:
        machine: where it ran, in words.
        device: the device it was asked about.
        seed: of games, weights and moves.
        seconds: how long it took.
        findings: the five, in their order.
    """

    machine: str
    device: str
    seed: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether all criteria are met; one that could not be measured is not."""
        return all(finding.verdict == "passed" for finding in self.findings)

    def lines(self) -> list[str]:
        """The report as a person reads it: the machine, a table, and what it comes to."""
        rows = [
            (f"{f.number} {f.name}", f.measured, f.wanted, _MARKS[f.verdict]) for f in self.findings
        ]
        unmet = [str(finding.number) for finding in self.findings if finding.verdict != "passed"]
        result = f"Not met: {', '.join(unmet)}." if unmet else "All five criteria are met."
        head = f"The five criteria on {self.machine}, seed {self.seed}"
        took = f"{result} It took {tqdm.format_interval(self.seconds)}."
        return [head, "", *table(rows, _COLUMNS), "", took]

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {**asdict(self), "passed": self.passed}
