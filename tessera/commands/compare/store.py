"""The folder of a comparison: the plan, the runs, and a line for each of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tessera.commands.compare.plan import Plan, Run
from tessera.commands.compare.training import read_result, write_whole
from tessera.commands.json_file import json_text
from tessera.training.checkpointing import LAST

COLUMNS = (
    *("run_id", "row", "phase", "seed", "lr", "lr_at_edge", "status", "reason"),
    *("C", "N", "D", "loss", "floor_nats", "excess_nats", "excess_se", "legal_mass", "legal_top1"),
    *("n_non_embedding", "state_bytes", "flops_per_token", "tokens_per_s", "seconds", "peak_mb"),
    *("tested_on", "board_size", "player", "features", "steps"),
)
SAME = "same"  # tested on games as those trained on
PLAN, RUNS, FAILURE = "plan.json", "runs.csv", "failure.json"
PLANNED, RUNNING, DONE, FAILED, INTERRUPTED = (
    *("planned", "running", "done", "failed", "interrupted"),
)


class Store:
    """Reads and writes the files of a comparison.

    Args:
        folder: where everything is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folder, if it is not there yet."""
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)

    def write_plan(self, plan: Plan) -> None:
        """Write plan.json."""
        write_whole(self.folder / PLAN, json_text(plan.as_dict()))

    def of(self, run: Run) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / run.run_id

    def result(self, run: Run) -> dict[str, Any] | None:
        """What the run has found; None as long as it is not done."""
        return read_result(self.of(run))

    def failure(self, run: Run) -> str | None:
        """Why the run failed and would fail again; None if there is no such reason."""
        try:
            return str(json.loads((self.of(run) / FAILURE).read_text(encoding="utf-8"))["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def fail(self, run: Run, reason: str) -> None:
        """Remember that the run would fail again."""
        self.of(run).mkdir(parents=True, exist_ok=True)
        write_whole(self.of(run) / FAILURE, json_text({"reason": reason}))

    def has_begun(self, run: Run) -> bool:
        """Whether there is something to go on from."""
        return (self.of(run) / LAST).exists()

    def write_runs(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write runs.csv."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for line in lines:
            writer.writerow({name: _cell(line.get(name)) for name in COLUMNS})
        write_whole(self.folder / RUNS, text.getvalue())


def lines_of(
    run: Run,
    status: str,
    reason: str,
    lr_at_edge: bool | None,
    known: Mapping[str, Any],
    result: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The lines of a run, one for each set of games that it is tested on.

    Args:
        run: which.
        status: of it.
        reason: why it failed.
        lr_at_edge: whether its learning rate is the least or the largest that was tried.
        known: figures that are known without training.
        result: as in result.json.
    """
    data = run.settings["data"]
    line = {
        **{"run_id": run.run_id, "row": run.row, "phase": run.phase, "seed": run.seed},
        **{"lr": run.lr, "lr_at_edge": lr_at_edge, "status": status, "reason": reason},
        **{"board_size": data["board_size"], "player": data["player"], **known},
        **{"features": run.settings["model"].get("features", "none"), "tested_on": SAME},
        "steps": run.settings["trainer"]["max_steps"],
    }
    if result is None:
        return [line]
    figures = result["figures"]
    own = [{**line, **figures}]
    tested = result.get("tested", {}).items()
    return own + [{**line, **figures, **other["figures"], "tested_on": on} for on, other in tested]


def _cell(value: Any) -> Any:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value
