"""What ``tessera scaling --dry-run`` prints."""

from __future__ import annotations

import warnings
from typing import Any

from tqdm import tqdm

from tessera.commands.compare.training import measure
from tessera.commands.console import waiting_for
from tessera.commands.json_file import tell
from tessera.commands.scaling.climb import Climb
from tessera.commands.scaling.ladder import Ladder
from tessera.commands.table import Cell, table

_MEASURED_S = 1.0  # of training, for the time that a step takes
_COLUMNS = {
    "row": None,
    "d_model": ",d",
    "seed": "d",
    "parameters": ",d",
    "state bytes": ",d",
    "FLOPs/token": ",.0f",
    "rungs": "d",
    "done": "d",
    "steps of the rungs": None,
    "steps to make": ",d",
    "tokens": ",.0f",
    "training FLOPs": ".3g",
    "expected": "",
}


def print_plan(climb: Climb, json: str | None) -> None:
    """Print what would be trained, and for how long: a second of each model is trained for that.

    Args:
        climb: of all ladders; rungs that are done are not counted again.
        json: a file for the same; ``-`` is standard output, alone.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    step_s: dict[tuple[str, int], float | None] = {}
    for ladder in climb.ladders:
        key = (ladder.row, ladder.size)
        if key not in step_s and climb.steps_left(ladder):
            waiting_for(f"measuring {ladder.row}, d_model {ladder.size}")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*across ranks is zero.*")
                step_s[key] = measure(ladder.rungs[-1].run.settings, _MEASURED_S)
    waiting_for("")
    found = [_planned(climb, each, step_s.get((each.row, each.size))) for each in climb.ladders]
    seconds = [each["expected_s"] for each in found]
    whole = "unknown" if None in seconds else tqdm.format_interval(sum(seconds))
    lines = table([_cells(each) for each in found], _COLUMNS)
    lines += ["", f"expected time, without starts and tests: {whole}"]
    tell(lines, json, {"ladders": found})


def _planned(climb: Climb, ladder: Ladder, step_s: float | None) -> dict[str, Any]:
    steps, counted = climb.steps_left(ladder), ladder.counted
    tokens, flops = steps * ladder.tokens_per_step, counted.get("flops_per_token")
    return {
        "row": ladder.row,
        "d_model": ladder.size,
        "seed": ladder.seed,
        "parameters": counted.get("N"),
        "state_bytes": counted.get("state_bytes"),
        "flops_per_token": flops,
        "rungs": len(ladder.rungs),
        "done": len(ladder.rungs) - len(climb.left(ladder)),
        "steps": [rung.steps for rung in ladder.rungs],
        "steps_to_make": steps,
        "tokens": tokens,
        "training_flops": None if flops is None else 3 * flops * tokens,
        "expected_s": 0.0 if not steps else None if step_s is None else step_s * steps,
    }


def _cells(planned: dict[str, Any]) -> list[Cell]:
    cells: list[Cell] = list(planned.values())
    cells[8] = " ".join(f"{steps:,}" for steps in planned["steps"])
    seconds = planned["expected_s"]
    cells[-1] = None if seconds is None else tqdm.format_interval(seconds)
    return cells
