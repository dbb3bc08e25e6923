"""What ``validate`` and ``test`` measured: a table for a person, all digits for a program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from tessera.commands.json_file import json_problems, json_text, write_json
from tessera.commands.output_file import write_file
from tessera.commands.picture_file import picture_file, picture_problems
from tessera.commands.table import ABSENT, table
from tessera.training.calibration import CALIBRATION_METRICS, Bin, Calibration
from tessera.training.calibration_drawing import calibration_drawing
from tessera.training.context_checks import CONTROL
from tessera.training.metrics import GROUPS, group_names, metric_names
from tessera.training.outcome_metrics import OUTCOME_METRICS


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metrics of one checkpoint on games that training never sees.

    Attributes:
        ckpt_path: the checkpoint.
        step: optimizer steps that it has; None if it does not say.
        games: which games, "val" or "test"; the metrics' names begin with it.
        metrics: what could be measured, by the names under which it is logged.
        calibration: what the probabilities of moves were worth; None if there was none.
    """

    ckpt_path: str
    step: int | None
    games: str
    metrics: Mapping[str, float]
    calibration: Calibration | None = None

    def lines(self) -> list[str]:
        """A row for each metric: over all tokens, by captured stones, and by ply; then the bins."""
        heads, suffixes = ["all"], [""]
        for name in ("captures", "ply"):
            groups = group_names(GROUPS[name])
            suffixes += [f"_by_{name}/{group}" for group in groups]
            first, *others = (x.replace("-", "–").replace("_or_more", "+") for x in groups)
            heads += [f"{name} {first}", *others]
        rows = [
            (name, *(self.metrics.get(f"{self.games}/{name}{suffix}") for suffix in suffixes))
            for name in metric_names()
            if "_by_" not in name
        ]
        if all(cell is None for _, *cells in rows for cell in cells):
            rows = []  # an objective that measures nothing of the next move
        # Only a model with an outcome has the latter.
        own = (*CALIBRATION_METRICS, *OUTCOME_METRICS)
        names = ((name, f"{self.games}/{name}") for name in own)
        nothing = [None] * (len(heads) - 1)
        rows += [(name, self.metrics[key], *nothing) for name, key in names if key in self.metrics]
        head = f"{self.ckpt_path}, step {ABSENT if self.step is None else self.step}"
        lines = [head, "", *table(rows, {"metric": None, **dict.fromkeys(heads, ".4f")})]
        if self.calibration is not None:
            lines += ["", *_bin_lines("legal moves given", self.calibration.moves)]
            lines += ["", *_bin_lines("likeliest moves given", self.calibration.tops)]
        return lines + self._checks()

    def _checks(self) -> list[str]:
        """What was checked of vectors, beside its control; nothing if nobody asked."""
        control = f"{self.games}/{CONTROL}"
        rows = [
            (name, self.metrics.get(f"{self.games}/{name}"), self.metrics[key])
            for key in self.metrics
            if (name := key.removeprefix(control)) != key
        ]
        heads = {"check of vectors": None, "this model": ".4g", "untrained": ".4g"}
        return ["", *table(rows, heads)] if rows else []

    def as_json(self) -> dict[str, object]:
        """Every metric by its name, the bins, and which checkpoint it is of."""
        found: dict[str, object] = {"ckpt_path": self.ckpt_path, "step": self.step, **self.metrics}
        if self.calibration is not None:
            sets = {"moves": self.calibration.moves, "tops": self.calibration.tops}
            found[f"{self.games}/calibration"] = {
                name: [{**asdict(each), "interval": each.interval} for each in bins]
                for name, bins in sets.items()
            }
        return found


def _bin_lines(title: str, bins: Iterable[Bin]) -> list[str]:
    """How often moves were played, by the probability that they were given."""
    rows = [
        (
            f"{_percent(each.low)} to {_percent(each.high)} %",
            each.forecasts,
            100 * each.mean,
            100 * each.frequency,
            " to ".join(f"{100 * end:.3f}" for end in each.interval),
        )
        for each in bins
    ]
    heads = {"forecasts": ",", "on average %": ".3f", "played %": ".3f", "in the long run %": ""}
    return table(rows, {title: None, **heads})


def _percent(chance: float) -> str:
    return f"{round(100 * chance, 2):g}"


def file_problems_of(json: str | None, reliability: str | None) -> list[str]:
    """Why a file that is asked for cannot be written; ``run_problems`` says what no name can be."""
    asked = [name for name in (json, reliability) if name]
    if not all(name.isprintable() for name in asked):
        return []
    problems = json_problems(json)
    problems += picture_problems(reliability, "--reliability")
    if len({os.path.realpath(name) for name in asked}) < len(asked):
        problems.append(f"--reliability must be another file than --json, got {reliability}.")
    return problems


def tell(
    measurement: Measurement, has_table: bool, json: str | None, reliability: str | None
) -> None:
    """Print the table, and write the files that are asked for.

    Args:
        measurement: what was measured.
        has_table: whether the table is wanted.
        json: where the JSON goes; ``-`` is standard output, which then holds nothing else.
        reliability: where the picture of the calibration goes.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    if json == "-":
        print(json_text(measurement.as_json()), end="")
    elif has_table:
        print("\n".join(measurement.lines()))
    if json != "-":
        write_json(json, measurement.as_json())
    if reliability is not None and measurement.calibration is not None:
        drawing = calibration_drawing(measurement.calibration)
        write_file(reliability, picture_file(drawing, reliability))
