"""What a bench measured, as a person and as a program reads it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar

from tessera.commands.bench.engine_speed import Speed
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.table import table

Row = TypeVar("Row")

_COLUMNS = {
    **{"engine": None, "what": None, "board": "d", "batch": ",", "plies/s": ",.0f"},
    **{"slowest to fastest run": "", "bytes/game": ",.0f"},
}


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
        rows = [
            (s.name, s.what, s.board_size, s.batch_size, s.plies_per_s, s.spread, s.bytes_per_game)
            for s in self.speeds
        ]
        ratios = [
            f"{ours.board_size}×{ours.board_size}, {ours.what}:"
            # Three digits, or all before the point.
            f" {format(ratio, ',.0f' if ratio >= 100 else '.3g')} times as fast as"
            f" {theirs.name}, {theirs.what}."
            for ours, theirs, ratio in self.ratios()
        ]
        return [self.machine, "", *table([*rows, *self.missing.items()], _COLUMNS), "", *ratios]

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


def measured(
    rows: Iterable[tuple[str, str, Callable[[], Row]]],
) -> tuple[tuple[Row, ...], dict[str, str]]:
    """The rows that could be measured, and by their names why others could not.

    Args:
        rows: what to say of each (nothing if empty), its name, and what measures it.
    """
    speeds: list[Row] = []
    missing: dict[str, str] = {}
    for said, name, measure in rows:
        if said:
            say(said)
        try:
            speeds.append(measure())
        except NotMeasuredError as error:
            missing[name] = str(error)
    return tuple(speeds), missing


def say(what: str) -> None:
    """Tell a waiting person what is being timed, apart from the report."""
    print(f"timing {what} ...", file=sys.stderr, flush=True)
