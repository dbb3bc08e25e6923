"""Runs of known laws."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tessera.commands.scaling.runs_file import Run

FLOOR = 2.953
TOKENS = np.geomspace(1e6, 1e8, 7)
SIZES = (100_000, 300_000, 1_000_000, 3_000_000)


def runs(
    b: float = 900.0,
    beta: float = 0.5,
    a: float = 0.0,
    alpha: float = 0.4,
    sizes: Sequence[int] = (1_000_000,),
    seeds: int = 1,
    noise: float = 0.0,
    draw: int = 0,
) -> list[Run]:
    """Runs whose excess is a/N^alpha + b/D^beta, times noise."""
    generator = np.random.default_rng(draw)
    found = []
    for size in sizes:
        for tokens in TOKENS:
            for seed in range(seeds):
                excess = a * size**-alpha + b * tokens**-beta
                excess *= float(np.exp(noise * generator.normal()))
                found.append(Run(size, int(tokens), FLOOR + excess, excess, None, None, str(seed)))
    return found


def write(path: Path, **rows: Sequence[Run]) -> None:
    """A runs.csv of these rows."""
    write_lines(path, [line for row, some in rows.items() for line in lines(row, some)])


def lines(row: str, some: Sequence[Run], **changes: Any) -> list[dict[str, Any]]:
    """A line of the file for each run, as tessera compare writes it; more columns than needed."""
    return [
        {
            "run_id": f"{row}{nth}",
            "row": row,
            "phase": "report",
            "seed": run.seed,
            "status": "done",
            "N": run.parameters,
            "D": run.tokens,
            "loss": run.loss,
            "floor_nats": FLOOR,
            "excess_nats": run.excess_nats,
            "excess_se": "",
            "tested_on": "same",
            "board_size": 9,
            "player": "uniform",
            "features": "none",
            **changes,
        }
        for nth, run in enumerate(some)
    ]


def write_lines(path: Path, some: Sequence[dict[str, Any]]) -> None:
    """The file of these lines."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(some[0]))
        writer.writeheader()
        writer.writerows(some)
