"""What ``tessera bench memory`` is asked for, and its rows, one after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import torch

from tessera.commands.arguments import find_device
from tessera.commands.bench.memory_count import Counted, count
from tessera.commands.bench.memory_process import Measured, RunProcess
from tessera.commands.bench.memory_report import MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import GROUPS, MemoryRow, rows_of
from tessera.commands.bench.memory_run import PRECISIONS
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.machine import machine_name


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let everything be said that can be chosen."""
    add = parser.add_argument
    groups = "; ".join(f"{name}: {what}" for name, what in GROUPS.items())
    add("--rows", metavar="NAME", nargs="+", help=f"{groups} (default: all)")
    what = f"{', '.join(PRECISIONS)}: of training, as trainer.precision (default: bf16-mixed)"
    add("--precision", metavar="NAME", default="bf16-mixed", help=what)
    what = "cuda, to measure too; cpu, to count only; auto measures if there is a GPU"
    add("--device", default="auto", help=what)
    add("--json", metavar="FILE", help="also write the figures to this file, in bytes and seconds")


def checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    names, problems = ", ".join(GROUPS), list[str]()
    for name in arguments.rows or ():
        if name not in GROUPS:
            problems.append(f"--rows must be some of {names}, got {name}.")
    if arguments.precision not in PRECISIONS:
        allowed = ", ".join(PRECISIONS)
        problems.append(f"--precision must be one of {allowed}, got {arguments.precision}.")
    return find_device(arguments, parser, problems)


def measure(arguments: argparse.Namespace, device: torch.device) -> MemoryReport:
    """Count all rows, and on a CUDA device measure them."""
    wanted = arguments.rows or GROUPS
    rows = [row for group in GROUPS if group in wanted for row in rows_of(group)]
    results = results_of(rows, arguments.precision, device)
    return MemoryReport(machine_name(device), arguments.precision, tuple(results))


def results_of(
    rows: Sequence[MemoryRow], precision: str, device: torch.device
) -> list[MemoryResult]:
    """What is found of each row; one that cannot be measured says why."""
    results: list[MemoryResult] = []
    is_measured = device.type == "cuda"
    doing = "measuring" if is_measured else "counting"
    with ExitStack() as stack:
        # The next process loads torch while the row before it runs.
        ready = stack.enter_context(RunProcess()) if is_measured else None
        for number, row in enumerate(rows, 1):
            said = f"{doing} {number} of {len(rows)}: {row.said} ..."
            print(said, file=sys.stderr, flush=True)
            counted = count(row, precision)
            if ready is None:
                results.append(MemoryResult(row, counted))
                continue
            process = ready
            if number < len(rows):
                ready = stack.enter_context(RunProcess())
            results.append(_result(process, row, counted, precision, device))
    return results


def _result(
    process: RunProcess, row: MemoryRow, counted: Counted, precision: str, device: torch.device
) -> MemoryResult:
    measured: Measured | None = None
    missing = ""
    try:
        # What cannot do without is what stands at once; losses take more or less, by the kernel.
        needed = counted.weights + counted.gradients + counted.moments
        measured = process.measure(row, precision, str(device), needed)
    except NotMeasuredError as error:
        missing = str(error)
    return MemoryResult(row, counted, measured, missing)
