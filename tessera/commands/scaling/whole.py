"""The whole of ``tessera scaling``: plan, train, fit and draw; or only say what would be done."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tessera.commands.compare.store import RUNS
from tessera.commands.console import waiting_for
from tessera.commands.ending import in_words, say
from tessera.commands.json_file import write_json
from tessera.commands.one_line import one_line
from tessera.commands.output_file import write_file
from tessera.commands.picture_file import picture_file
from tessera.commands.quiet import quieten
from tessera.commands.scaling.chart import scaling_chart
from tessera.commands.scaling.climb import Climb
from tessera.commands.scaling.dry_run import print_plan
from tessera.commands.scaling.fit_command import floors_of, tell
from tessera.commands.scaling.fits import as_json, fit_row
from tessera.commands.scaling.ladder import ladders_of
from tessera.commands.scaling.options import Options
from tessera.commands.scaling.report import report
from tessera.commands.scaling.runs_file import Row, RunsError, read_rows
from tessera.setting_errors import SettingError
from tessera.signals import Stopped
from tessera.training.checkpoint_file import CheckpointError, SaveError
from tessera.training.run_lock import RunLock

_USUAL_FOLDER = Path("lightning_logs") / "scaling"
_PICTURES = ("scaling.svg", "scaling.png")


def scale(options: Options, arguments: argparse.Namespace) -> int:
    """Train what is not there yet, fit and draw.

    Args:
        options: of the ladder.
        arguments: of the fits, parsed.

    Returns:
        0; 1 if a rung could not be trained, or the machine is at fault; 128 and more after a
        signal.

    Raises:
        SettingError: with a problem for everything that is wrong.
    """
    quieten()
    waiting_for("planning")
    plan, ladders = ladders_of(options)
    folder = Path(options.folder) if options.folder else _USUAL_FOLDER / _name(options)
    climb = Climb(ladders, folder)
    waiting_for("")
    if options.is_dry:
        with _threads(plan.threads):
            print_plan(climb, arguments.json)
        return 0
    lock = RunLock()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.take(folder)
        climb.open(plan, options)
    except CheckpointError as error:
        reason = str(error).partition(";")[0]
        raise SettingError(f"{reason}; wait until it ends, or name another --folder.") from error
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise SettingError(f"--folder: {in_words(error)}.") from error
    try:
        with _threads(plan.threads):
            climb.go()
    except Stopped as stopped:
        done = f"{climb.num_done} of {climb.num_rungs} rungs are done"
        print(f"tessera: {stopped}; {done}; the same command goes on.", file=sys.stderr)
        return 128 + stopped.number
    except (CheckpointError, SaveError) as error:
        return say(str(error), 1)
    finally:
        lock.release()
    return _fit(climb, arguments)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let torch have so many threads; as many as it has if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(climb: Climb, arguments: argparse.Namespace) -> int:
    """Fit what is done, say what is not, and draw."""
    runs = climb.folder / RUNS
    problems = climb.failures
    rows: list[Row] = []
    for name in climb.rows_done:
        try:
            rows += read_rows(str(runs), [name])
        except RunsError as error:  # rungs are missing
            problems.append(str(error).rstrip("."))
    for line in problems:
        say(one_line(f"{line}."), 1)
    try:
        fits = [
            fit_row(row, floors_of(arguments), arguments.replicates, arguments.bootstrap_seed)
            for row in rows
        ]
    except RunsError as error:
        return say(str(error), 2)
    if not fits:
        return 1
    tell(fits, arguments)
    write_json(str(climb.folder / "scaling.json"), {"rows": [as_json(each) for each in fits]})
    write_file(str(climb.folder / "scaling.md"), f"{report(fits)}\n".encode())
    drawing = scaling_chart(fits)
    for name in _PICTURES:
        write_file(str(climb.folder / name), picture_file(drawing, name))
    if arguments.json != "-":
        print(f"runs:     {runs}")
        print(f"pictures: {', '.join(str(climb.folder / name) for name in _PICTURES)}")
    return 1 if problems else 0


def _name(options: Options) -> str:
    """Of the folder: what was asked for, as far as it can be part of a path."""
    return "+".join(Path(part).stem for part in options.rows[0].split("+") if part) or "ladder"
