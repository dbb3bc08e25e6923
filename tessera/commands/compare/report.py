"""The report on a folder of ``tessera compare``: tables, pictures, TensorBoard's HParams page.

Nothing is trained and torch is not loaded: everything is in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tessera.commands.compare.report_hparams import write_hparams
from tessera.commands.compare.report_pictures import charts_of, rows_without_place
from tessera.commands.compare.report_runs import RUNS, read_comparison
from tessera.commands.compare.report_summary import groups_of
from tessera.commands.compare.report_tables import tables_of, unfinished
from tessera.commands.output_file import write_file
from tessera.play.chart import Chart, chart_drawing
from tessera.play.pixels import png
from tessera.play.svg import svg

REPORT = "report.md"
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_TOLD = (
    *("match", "tokens", "seconds", "baseline", "lrs", "seeds", "grid", "test_on", "data"),
    *("options", "code"),
)


def write_report(folder: Path) -> str:
    """Write ``report.md``, the pictures and a file for the HParams page beside each run.

    Args:
        folder: with ``plan.json``, ``runs.csv`` and ``runs/RUN_ID/result.json``.

    Returns:
        the tables and what was written, as they are shown on a terminal.

    Raises:
        SettingError: in one line, if there is no such folder, no run in it, or a file is broken.
        OSError: if a file cannot be written.
    """
    comparison = read_comparison(folder)
    groups = groups_of(comparison)
    left = unfinished(comparison)
    told = _told(comparison.plan)
    lines, words = ["# Comparison", "", *(f"- {line}" for line in told), ""], [*told, ""]
    pictures = []
    for group in groups:
        lines += [f"## On {group.words}", ""]
        for table in tables_of(group):
            lines += table.markdown()
            words += table.terminal()
        if without := rows_without_place(group):
            note = "Not in the pictures, because the excess is not above 0: " + ", ".join(without)
            lines += [f"{note}.", ""]
        for name, chart in charts_of(group):
            pictures.append(name)
            _draw(folder, name, chart)
            lines += [f"![{chart.title}. {chart.note}]({name}.svg)", ""]
    if left is not None:
        lines += ["## What is missing", "", *left.markdown()]
        words += left.terminal()
    write_file(str(folder / REPORT), "\n".join(lines).rstrip("\n").encode() + b"\n")
    written = write_hparams(comparison)
    words.append(f"{folder / REPORT}: these tables.")
    if pictures:
        words.append(f"{folder}: {', '.join(pictures)}, each as .svg and .png.")
    if written:
        words.append(f"tensorboard --logdir {folder / RUNS}: {written} runs on its page HParams.")
    return "\n".join(words)


def _draw(folder: Path, name: str, chart: Chart) -> None:
    drawing = chart_drawing(chart)
    for end, content in ((".svg", svg(drawing)), (".png", png(drawing))):
        write_file(str(folder / (name + end)), content)


def _told(plan: Mapping[str, Any]) -> list[str]:
    """What the plan says of the comparison as a whole, a line for each."""
    return [f"{name}: {_in_words(plan[name])}" for name in _TOLD if plan.get(name) not in _NOTHING]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        known = {name: inner for name, inner in value.items() if inner not in _NOTHING}
        return ", ".join(f"{name} {_in_words(inner)}" for name, inner in known.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
