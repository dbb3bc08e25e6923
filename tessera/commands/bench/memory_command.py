"""What ``tessera bench memory`` is asked for, and its rows, one after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

import torch

from tessera.commands.arguments import find_device
from tessera.commands.bench.memory_count import Counted, count
from tessera.commands.bench.memory_file import MemoryFile, report_problems, this_code, whole_report
from tessera.commands.bench.memory_page import MemoryPage
from tessera.commands.bench.memory_process import RunProcess
from tessera.commands.bench.memory_report import MemoryReport, MemoryResult
from tessera.commands.bench.memory_rows import GROUPS, MemoryRow, rows_of
from tessera.commands.bench.memory_run import PRECISIONS
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.console import waiting_for
from tessera.commands.json_file import STANDARD_OUTPUT, tell
from tessera.commands.machine import machine_name
from tessera.signals import Stopped


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let everything be said that can be chosen."""
    add = parser.add_argument
    groups = "; ".join(f"{name}: {what}" for name, what in GROUPS.items())
    add("--rows", metavar="NAME", nargs="+", help=f"{groups} (default: all)")
    what = f"{', '.join(PRECISIONS)}: of training, as trainer.precision (default: bf16-mixed)"
    add("--precision", metavar="NAME", default="bf16-mixed", help=what)
    what = "cuda, to measure too; cpu, to count only; auto measures if there is a GPU"
    add("--device", default="auto", help=what)
    what = "write the figures to this file after every row, in bytes and seconds; rows of the same"
    add("--json", metavar="FILE", help=f"{what} settings, machine and code there are not run again")
    what = "measure nothing: print what these files of --json hold as tables in Markdown"
    add("--report", metavar="FILE", nargs="+", help=what)


def checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    names, problems = ", ".join(GROUPS), list[str]()
    for name in arguments.rows or ():
        if name not in GROUPS:
            problems.append(f"--rows must be some of {names}, got {name}.")
    if arguments.precision not in PRECISIONS:
        allowed = ", ".join(PRECISIONS)
        problems.append(f"--precision must be one of {allowed}, got {arguments.precision}.")
    if arguments.report is not None:
        others = {"--rows": arguments.rows, "--json": arguments.json}
        given = [name for name, value in others.items() if value is not None]
        problems += [f"{name} must be left out with --report." for name in given]
        problems += report_problems(arguments.report)
    return find_device(arguments, parser, problems)


def measure(arguments: argparse.Namespace, device: torch.device) -> MemoryReport | MemoryPage:
    """Count all rows, and on a CUDA device measure them; or show what was measured before.

    A row is written as soon as it is there; a signal leaves the table of those that are.
    """
    if arguments.report is not None:
        return MemoryPage(whole_report(arguments.report))
    wanted = arguments.rows or GROUPS
    rows = [row for group in GROUPS if group in wanted for row in rows_of(group)]
    report = MemoryReport(machine_name(device), arguments.precision, this_code(), ())
    written = None if arguments.json == STANDARD_OUTPUT else arguments.json
    file = MemoryFile(written, report)
    results: list[MemoryResult] = []
    try:
        for result in results_of(rows, arguments.precision, device, file):
            results.append(result)
    except Stopped:
        waiting_for("")
        if results:
            found = replace(report, results=tuple(results), others=file.others(rows))
            tell(found.lines(), arguments.json, found.as_json())
        raise
    return replace(report, results=tuple(results), others=file.others(rows))


def results_of(
    rows: Sequence[MemoryRow], precision: str, device: torch.device, file: MemoryFile
) -> Iterator[MemoryResult]:
    """What is found of each row, as soon as it is; one that cannot be measured says why.

    Args:
        rows: in their order.
        precision: of training.
        device: a CUDA device, or the CPU to count only.
        file: what is known already, and where what is found is written.
    """
    is_measured = device.type == "cuda"
    known = [file.found(row, is_measured) for row in rows]
    missing = [row for row, there in zip(rows, known, strict=True) if there is None]
    if file.note:
        held = f" {len(rows) - len(missing)} of {len(rows)} rows are there." if any(known) else ""
        print(f"tessera: {file.note}{held}", file=sys.stderr, flush=True)
    found = _measured(missing, precision, device) if is_measured else _counted(missing, precision)
    with closing(found):
        for number, (row, there) in enumerate(zip(rows, known, strict=True), 1):
            if there is not None:
                yield there
                continue
            place = f"{number} of {len(rows)}: {row.said}"
            waiting_for(f"{'measuring' if is_measured else 'counting'} {place}")
            result = next(found)
            file.add(result)
            print(f"{place}: {result.in_words()}", file=sys.stderr, flush=True)
            yield result


def _counted(rows: Sequence[MemoryRow], precision: str) -> Generator[MemoryResult, None, None]:
    for row in rows:
        yield MemoryResult(row, count(row, precision))


def _measured(
    rows: Sequence[MemoryRow], precision: str, device: torch.device
) -> Generator[MemoryResult, None, None]:
    if not rows:
        return
    with ExitStack() as stack:
        # While a row runs, the next process loads torch, and the next row is counted.
        next_process, next_count = stack.enter_context(RunProcess()), count(rows[0], precision)
        for number, row in enumerate(rows, 1):
            process, counted = next_process, next_count
            # It cannot do without what stands at once; losses take more or less, by the kernel.
            needed = counted.weights + counted.gradients + counted.moments
            process.begin(row, precision, str(device), needed)
            if number < len(rows):
                next_process = stack.enter_context(RunProcess())
                next_count = count(rows[number], precision)
            yield _result(process, row, counted)


def _result(process: RunProcess, row: MemoryRow, counted: Counted) -> MemoryResult:
    with process:
        try:
            return MemoryResult(row, counted, process.measured())
        except NotMeasuredError as error:
            return MemoryResult(row, counted, missing=str(error))
