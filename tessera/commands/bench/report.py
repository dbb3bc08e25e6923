"""What a bench measured, as a person and as a program reads it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from tessera.commands.bench.engine_speed import Speed


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run of a bench measured.

    Attributes:
        machine: where it ran, in words.
        speeds: Tessera's rows and the rivals' that could be timed.
        missing: why another row is not there, by its name.
    """

    machine: str
    speeds: tuple[Speed, ...]
    missing: dict[str, str]

    def ratios(self) -> list[tuple[Speed, Speed, float]]:
        """Each of Tessera's rows, a rival's to compare it with, and how many times as fast."""
        return [
            (ours, theirs, ours.plies_per_s / theirs.plies_per_s)
            for theirs in self.speeds
            for ours in self.speeds
            if ours.name == "Tessera" != theirs.name
            and (ours.board_size, ours.group) == (theirs.board_size, theirs.group)
        ]

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        head = f"{'engine':16} {'what':40} {'board':>5} {'batch':>8} {'plies/s':>13}"
        said = [self.machine, "", f"{head} {'slowest to fastest run':>28} {'bytes/game':>10}"]
        for s in self.speeds:
            rates = sorted(run.plies / run.seconds for run in s.runs)
            spread = f"{rates[0]:,.0f} to {rates[-1]:,.0f}" if len(rates) > 1 else "one run"
            held = "" if s.bytes_per_game is None else f"{s.bytes_per_game:,.0f}"
            shape = f"{s.board_size:5} {s.batch_size:8,}"
            row = f"{s.name:16} {s.what:40} {shape} {s.plies_per_s:13,.0f}"
            said.append(f"{row} {spread:>28} {held:>10}".rstrip())
        said += [f"{name:16} {reason}" for name, reason in self.missing.items()]
        said.append("")
        said += [
            f"{ours.board_size}×{ours.board_size}, {ours.what}: {_short(ratio)} times as fast as"
            f" {theirs.name}, {theirs.what}."
            for ours, theirs, ratio in self.ratios()
        ]
        return said

    def as_json(self) -> dict[str, object]:
        """The report as plain values, with what follows from them."""
        speeds = [{**asdict(s), "plies_per_s": s.plies_per_s} for s in self.speeds]
        ratios = [
            {
                "what": ours.what,
                "board_size": ours.board_size,
                "rival": theirs.name,
                "rival_what": theirs.what,
                "ratio": ratio,
            }
            for ours, theirs, ratio in self.ratios()
        ]
        return {**asdict(self), "speeds": speeds, "ratios": ratios}


def _short(ratio: float) -> str:
    """Three digits, or all before the point."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def say(what: str) -> None:
    """Tell a waiting person what is being timed, apart from the report."""
    print(f"timing {what} ...", file=sys.stderr, flush=True)
