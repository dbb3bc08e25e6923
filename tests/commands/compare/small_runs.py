"""A comparison that takes seconds: 3×3 boards, a small model, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

THREE = """
data: {board_size: 3, context: null, batch_size: 8, games_per_chunk: 32, max_moves: 12,
  val_batches: 1, test_batches: 2, player: uniform}
model: {d_model: 8, lr: 1.0e-2, mixer: attention}
cpu_threads: 1
"""


def settings(**changes: Any) -> dict[str, Any]:
    """Settings of ``run_one``, of a run of 24 steps."""
    found: dict[str, Any] = {
        "row": "a",
        "phase": "report",
        "seed": 3,
        "lr": 1e-2,
        "model": {"vocab_size": 12, "d_model": 8, "lr": 1e-2, "warmup_steps": 2},
        "data": {
            "board_size": 3,
            "context": None,
            "batch_size": 8,
            "games_per_chunk": 32,
            "max_moves": 12,
            "val_batches": 1,
            "test_batches": 2,
            "player": "uniform",
            "seed": 3,
        },
        "held_out_seed": 0,
        "is_tested": True,
        "trainer": {"max_steps": 24, "accelerator": "cpu", "gradient_clip_val": 1.0},
    }
    return {**found, **changes}


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs from call to call."""
    figures = {
        name: value
        for name, value in result["figures"].items()
        if name not in ("seconds", "tokens_per_s")
    }
    curve = [{**point, "seconds": None} for point in result["curve"]]
    return {**result, "figures": figures, "curve": curve, "wall_s": None}


def write_three(folder: Path) -> None:
    """The configuration three.yaml."""
    (folder / "three.yaml").write_text(THREE)
