"""What ``tessera compare --dry-run`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from tessera.commands.compare.comparison import Comparison
from tessera.commands.compare.plan import Plan, PlannedRow
from tessera.commands.compare.store import DONE
from tessera.commands.json_file import tell
from tessera.commands.table import Cell, table

_COLUMNS = {
    "row": None,
    "d_model": ",d",
    "layers": "d",
    "parameters": ",d",
    "without embedding": ",d",
    "state bytes": ",d",
    "FLOPs/token": ",.0f",
    "steps": ",d",
    "tokens": ",.0f",
    "training FLOPs": ".3g",
    "learning rates": None,
    "runs": "d",
    "done": "d",
    "s/run": ",.1f",
    "expected": "",
}


def print_plan(
    plan: Plan, comparison: Comparison, speeds: Mapping[str, float], num_workers: int
) -> None:
    """Print what would be trained, and for how long.

    Args:
        plan: whose rows all have their steps.
        comparison: of it; runs that are done are not counted again.
        speeds: seconds of a step by the row's name, as far as they are known.
        num_workers: runs at once.
    """
    options = plan.options
    rows = [_row(plan, row, comparison, speeds) for row in plan.rows]
    seconds = [row["expected_s"] for row in rows]
    is_known = None not in seconds and num_workers > 0
    total = sum(seconds) / num_workers if is_known else None
    content: dict[str, Any] = {
        "rows": rows,
        "match": options.match,
        "baseline": plan.baseline,
        "seeds": options.seeds,
        "grid_seed": plan.grid_seed,
        "lr_extensions": options.lr_extensions,
        "runs": sum(row["runs"] for row in rows),
        "workers": num_workers,
        "expected_s": total,
    }
    to_come = f", and up to {options.lr_extensions} more of each row while its best learning rate "
    to_come += "lies at the edge" if options.lr_extensions else ""
    many = f"{content['runs']} runs on {num_workers} worker{'s' if num_workers > 1 else ''}"
    lines = [
        *table([_cells(row) for row in rows], _COLUMNS),
        *("", f"{many}{to_come if options.lr_extensions else ''}"),
        f"expected time: {'unknown' if total is None else tqdm.format_interval(total)}",
    ]
    tell(lines, options.json, content)


def _row(
    plan: Plan, row: PlannedRow, comparison: Comparison, speeds: Mapping[str, float]
) -> dict[str, Any]:
    assert row.steps is not None
    standings = [each for each in comparison.standings.values() if each.run.row == row.name]
    grid = len(row.lrs) if len(row.lrs) > 1 else 0
    runs = max(grid + len(plan.options.seeds), len(standings))
    done = [each for each in standings if each.status == DONE and each.result is not None]
    walls = [each.result["wall_s"] for each in done if each.result and "wall_s" in each.result]
    # What finished runs took, their start and their tests included, is the better witness.
    step_s = speeds.get(row.name)
    per_run = sum(walls) / len(walls) if walls else None if step_s is None else step_s * row.steps
    tokens = row.steps * plan.tokens_per_step[row.name]
    flops = row.counted.get("flops_per_token")
    return {
        "row": row.name,
        "d_model": row.model["d_model"],
        "n_layers": row.model["n_layers"],
        "parameters": row.counted.get("N"),
        "n_non_embedding": row.counted.get("n_non_embedding"),
        "state_bytes": row.counted.get("state_bytes"),
        "flops_per_token": flops,
        "steps": row.steps,
        "tokens": math.floor(tokens),
        "training_flops": None if flops is None else 3 * flops * tokens,
        "lrs": row.lrs,
        "runs": runs,
        "done": len(done),
        "run_s": per_run,
        "expected_s": None if per_run is None else per_run * (runs - len(done)),
    }


def _cells(row: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = list(row.values())
    cells[10] = ", ".join(f"{lr:g}" for lr in row["lrs"])
    expected = row["expected_s"]
    cells[-1] = None if expected is None else tqdm.format_interval(expected)
    return cells
