"""``tessera compare``: plan, train on workers, and report; or only say what would be done."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import torch

from tessera.commands.compare.comparison import Comparison
from tessera.commands.compare.dry_run import print_plan
from tessera.commands.compare.options import Options
from tessera.commands.compare.plan import Plan, plan_of
from tessera.commands.compare.pool import places
from tessera.commands.compare.report import write_report
from tessera.commands.compare.rows import read_rows
from tessera.commands.compare.running import WorkerError, run_all
from tessera.commands.compare.speeds import (
    SpeedError,
    keep_speeds,
    known_speeds,
    measured_speeds,
)
from tessera.commands.compare.store import Store
from tessera.commands.console import waiting_for
from tessera.commands.ending import in_words, say
from tessera.commands.quiet import quieten
from tessera.setting_errors import SettingError
from tessera.signals import Stopped
from tessera.training.checkpoint_file import CheckpointError
from tessera.training.run_lock import RunLock

_USUAL_FOLDER = Path("lightning_logs") / "compare"


def compare(options: Options) -> int:
    """Train and report, or print what would be trained.

    Returns:
        0; 1 if a row could not be trained, or the machine is at fault.

    Raises:
        SettingError: with a problem for everything that is wrong in the rows.
    """
    quieten()
    waiting_for("reading the rows")
    rows = read_rows(options.rows, options.fit, options.configs, options.mixers)
    waiting_for("planning")
    plan = plan_of(rows, options)
    folder = Path(options.folder) if options.folder else _USUAL_FOLDER / _name(options)
    where = _places(plan)
    waiting_for("")
    try:
        if options.is_dry:
            return _say_what(plan, folder, where)
        return _train(plan, folder, where)
    except (WorkerError, SpeedError) as error:
        return say(str(error), 1)


def _train(plan: Plan, folder: Path, where: list[dict[str, str]]) -> int:
    store, lock = Store(folder), RunLock()
    try:
        store.make()
        lock.take(folder)
    except CheckpointError as error:
        where_from = str(error).partition(";")[0]
        raise SettingError(
            f"{where_from}; wait until it ends, or name another --folder."
        ) from error
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise SettingError(f"--folder: {in_words(error)}.") from error
    try:
        speeds = known_speeds(plan, folder)
        if missing := _to_measure(plan, speeds):
            found, reasons = measured_speeds(plan, missing, where, folder, True)
            keep_speeds(plan, folder, found)
            speeds |= found
            _check_measured(plan, reasons)
        plan = with_steps(plan, speeds)
        store.write_plan(plan)
        comparison = Comparison(plan, store)
        try:
            run_all(comparison, where, folder)
        except Stopped as stopped:
            done = f"{comparison.num_over} of {comparison.num_runs} runs are over"
            print(f"tessera: {stopped}; {done}; the same command goes on.", file=sys.stderr)
            # Whoever swallows it is stopped again.
            raise SystemExit(128 + stopped.number) from None
    finally:
        lock.release()
    print(write_report(folder))
    for line in comparison.failures:
        say(f"{line}.", 1)
    return 1 if comparison.failures else 0


def _say_what(plan: Plan, folder: Path, where: list[dict[str, str]]) -> int:
    speeds = known_speeds(plan, folder)
    reasons: dict[str, str] = {}
    missing = [row.name for row in plan.rows if row.name not in speeds]
    if not _to_measure(plan, speeds):  # finished runs say it as well
        done = Comparison(with_steps(plan, speeds), Store(folder)).rows_done
        missing = [name for name in missing if name not in done]
    if missing:
        with tempfile.TemporaryDirectory() as logs:
            found, reasons = measured_speeds(plan, missing, where, Path(logs), False)
        speeds |= found
    if _to_measure(plan, speeds):
        _check_measured(plan, reasons)
    plan = with_steps(plan, speeds)
    print_plan(plan, Comparison(plan, Store(folder)), speeds, len(where))
    for name, reason in reasons.items():
        say(f"{name} could not be measured: {reason}.", 1)
    return 0


def with_steps(plan: Plan, speeds: dict[str, float]) -> Plan:
    """The plan with the steps of every row, those of a row with enough speeds.

    Args:
        plan: as it was asked for.
        speeds: seconds of a step by the row's name.
    """
    options, baseline = plan.options, plan.baseline
    steps = {row.name: row.steps for row in plan.rows}
    if None not in steps.values():
        return plan
    if options.seconds is None:  # those of the baseline for so many tokens
        assert options.tokens is not None
        base_steps = max(1, round(options.tokens / plan.tokens_per_step[baseline]))
        seconds = base_steps * speeds[baseline]
    else:
        seconds = options.seconds
    if options.match == "seconds":
        found = {name: max(1, round(seconds / speeds[name])) for name in steps}
    else:  # the tokens that the baseline reads in that time
        tokens = seconds / speeds[baseline] * plan.tokens_per_step[baseline]
        found = {name: max(1, round(tokens / plan.tokens_per_step[name])) for name in steps}
    return plan.with_steps(found)


def _to_measure(plan: Plan, speeds: dict[str, float]) -> list[str]:
    """The rows whose speed has to be known before their steps are."""
    if all(row.steps is not None for row in plan.rows):
        return []
    names = [row.name for row in plan.rows] if plan.options.match == "seconds" else [plan.baseline]
    return [name for name in names if name not in speeds]


def _check_measured(plan: Plan, reasons: dict[str, str]) -> None:
    if reasons:
        lines = (f"{name} could not be measured: {reason}" for name, reason in reasons.items())
        raise SpeedError("; ".join(lines) + ".")


def _places(plan: Plan) -> list[dict[str, str]]:
    options = plan.options
    is_gpu = plan.rows[0].trainer["accelerator"] == "gpu"
    usual = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(usual) if usual.isdecimal() else (os.cpu_count() or 1) // options.processes
    threads = plan.threads or max(1, threads)
    gpus = torch.cuda.device_count() if is_gpu else 0
    return places(gpus, options.processes_per_gpu, options.processes, threads)


def _name(options: Options) -> str:
    """Of the folder: what was asked for, as far as it can be part of a path."""
    named = options.rows[:1] or options.configs or ["uniform_9x9"]
    parts = [Path(part).stem for part in "+".join(named).split("+") if part]
    return "+".join(parts)
