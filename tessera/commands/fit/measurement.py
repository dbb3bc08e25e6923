"""What ``validate`` and ``test`` measured: a table for a person, all digits for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tessera.commands.json_file import file_problems, json_text, write_json
from tessera.commands.table import ABSENT, table
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
    """

    ckpt_path: str
    step: int | None
    games: str
    metrics: Mapping[str, float]

    def lines(self) -> list[str]:
        """A row for each metric: over all tokens, by captured stones, and by ply."""
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
        # Only a model with an outcome has these.
        names = ((name, f"{self.games}/{name}") for name in OUTCOME_METRICS)
        nothing = [None] * (len(heads) - 1)
        rows += [(name, self.metrics[key], *nothing) for name, key in names if key in self.metrics]
        head = f"{self.ckpt_path}, step {ABSENT if self.step is None else self.step}"
        return [head, "", *table(rows, {"metric": None, **dict.fromkeys(heads, ".4f")})]

    def as_json(self) -> dict[str, object]:
        """Every metric by its name, and which checkpoint it is of."""
        return {"ckpt_path": self.ckpt_path, "step": self.step, **self.metrics}


def json_problems(file: str | None) -> list[str]:
    """Why ``--json`` cannot be obeyed, if it cannot; ``run_problems`` says what no name can be."""
    return [] if file in (None, "-") or not file.isprintable() else file_problems(file)


def tell(measurement: Measurement, has_table: bool, file: str | None) -> None:
    """Print the table, and write what ``--json`` asks for.

    Args:
        measurement: what was measured.
        has_table: whether the table is wanted.
        file: where the JSON goes; ``-`` is standard output, which then holds nothing else.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    if file == "-":
        print(json_text(measurement.as_json()), end="")
        return
    if has_table:
        print("\n".join(measurement.lines()))
    write_json(file, measurement.as_json())
