"""Folders as ``tessera compare`` leaves them, of rows that are made up."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = [
    *("run_id", "row", "phase", "seed", "lr", "lr_at_edge", "status", "reason", "C", "N", "D"),
    *("loss", "floor_nats", "excess_nats", "excess_se", "legal_mass", "legal_top1"),
    *("n_non_embedding", "state_bytes", "flops_per_token", "tokens_per_s", "seconds", "peak_mb"),
    *("tested_on", "board_size", "player", "features", "steps"),
]
GAMES = 40
RATES = (3e-4, 1e-3, 3e-3)
TOKENS = 1_000_000


@dataclass(frozen=True)
class Made:
    """A row that is made up.

    Attributes:
        level: its excess after a tenth of the tokens.
        exponent: by which it falls.
        best: which of the rates is the best one.
        cost: FLOPs of a token's forward pass.
    """

    name: str
    level: float = 1.0
    exponent: float = 0.5
    best: int = 1
    cost: float = 1e6
    state_bytes: int = 8192
    fails: str = ""

    def excess(self, tokens: float) -> float:
        return self.level * float(tokens / (TOKENS / 10)) ** -self.exponent


ROWS = (
    Made("mamba"),
    Made("attention", level=0.6, cost=3e6, state_bytes=200_000),
    Made("gated_delta", level=0.9, exponent=0.6, best=2, cost=2e6, state_bytes=65_536),
    Made("bk_core", level=1.5, exponent=0.2, cost=4e5, state_bytes=512),
)


def write_comparison(
    folder: Path,
    rows: Sequence[Made] = ROWS,
    seeds: Sequence[int] = (0, 1, 2),
    others: Sequence[str] = ("uniform",),
    **plan: Any,
) -> list[dict[str, Any]]:
    """Write the folder; returns the lines of its ``runs.csv``."""
    (folder / "runs").mkdir(parents=True)
    content = {"rows": [row.name for row in rows], "seeds": list(seeds), "baseline": "mamba"}
    (folder / "plan.json").write_text(json.dumps({**content, "match": "tokens", **plan}))
    generator = np.random.default_rng(0)
    hardness = generator.normal(0, 0.05, GAMES)
    tokens = generator.integers(20, 60, GAMES)
    lines = []
    for row in rows:
        for nth, lr in enumerate(RATES):
            excess = row.excess(TOKENS) * (1 + abs(nth - row.best) / 2)
            lines.append(_line(row, "grid", 100, lr, excess))
            _write_result(folder, lines[-1], {})
        for seed in seeds:
            factor = 1 + 0.02 * generator.normal()
            line = _line(row, "report", seed, RATES[row.best], row.excess(TOKENS) * factor)
            lines.append(line)
            if row.fails:
                line |= {"status": "failed", "reason": row.fails, "excess_nats": "", "loss": ""}
                continue
            curve = [
                {
                    "step": step,
                    "tokens": TOKENS * step // 10,
                    "seconds": step * row.cost / 1e6,
                    "excess_nats": factor * row.excess(TOKENS * step / 10),
                    "loss": 2 + factor * row.excess(TOKENS * step / 10),
                }
                for step in range(1, 11)
            ]
            tested = {}
            for which in ("same", *others):
                worse = 1 if which == "same" else 1.5
                level = line["excess_nats"] * worse
                per_game = (level + hardness - (hardness * tokens).sum() / tokens.sum()) * tokens
                tested[which] = {
                    "per_game": {"excess_sum": per_game.tolist(), "tokens": tokens.tolist()},
                    "captures": [
                        {
                            **{"captured_from": first, "captured_to": last, "positions": 500},
                            **{"excess_nats": level * worse * (1 + first / 4)},
                            **{"legal_mass": 1 - level / 9, "legal_top1": 0.99},
                        }
                        for first, last in ((0, 0), (1, 4), (5, None))
                    ],
                }
                if which != "same":
                    lines.append({**line, "tested_on": which, "excess_nats": level})
            _write_result(folder, line, {**tested.pop("same"), "curve": curve, "tested": tested})
    write_lines(folder, lines)
    return lines


def write_lines(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    with open(folder / "runs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)


def _line(row: Made, phase: str, seed: int, lr: float, excess: float) -> dict[str, Any]:
    return {
        "run_id": f"{row.name}_{phase}_{seed}_{lr:g}".replace(".", "_"),
        "row": row.name,
        "phase": phase,
        "seed": seed,
        "lr": lr,
        "lr_at_edge": row.best in (0, len(RATES) - 1),
        "status": "done",
        "reason": "",
        "C": 3 * row.cost * TOKENS,
        "N": 120_000,
        "D": TOKENS,
        "loss": 2 + excess,
        "floor_nats": 2.0,
        "excess_nats": excess,
        "excess_se": excess / 50,
        "legal_mass": 0.97,
        "legal_top1": 0.99,
        "n_non_embedding": 110_000,
        "state_bytes": row.state_bytes,
        "flops_per_token": row.cost,
        "tokens_per_s": 1e11 / row.cost,
        "seconds": 10 * row.cost / 1e6,
        "peak_mb": "",  # not measured
        "tested_on": "same",
        "board_size": 9,
        "player": "rules",
        "features": "none",
        "steps": 10,
    }


def _write_result(folder: Path, line: dict[str, Any], content: dict[str, Any]) -> None:
    own = folder / "runs" / line["run_id"]
    own.mkdir(parents=True, exist_ok=True)
    identity = {name: line[name] for name in ("run_id", "row", "phase", "seed", "lr")}
    (own / "result.json").write_text(json.dumps({**identity, "figures": {}, **content}))
