"""What ``tessera bench mixers`` is asked for, and the mixers, some of them at once."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing

import torch

from tessera.commands.arguments import find_device
from tessera.commands.bench.fresh_process import TookTooLongError
from tessera.commands.bench.mixers_process import Asked, MixerProcess, Ready
from tessera.commands.bench.mixers_report import BASELINE, MixerSpeed, MixersReport
from tessera.commands.bench.rivals import NotMeasuredError
from tessera.commands.console import waiting_for
from tessera.commands.json_file import STANDARD_OUTPUT, tell, write_json
from tessera.commands.machine import machine_name
from tessera.model.own import is_class_path
from tessera.model.settings import part_names
from tessera.setting_errors import Problem, noted, or_none, problems_of, whole
from tessera.signals import Stopped
from tessera.vocabulary import check_board_size

_LONGEST_S = 3_600
_ALLOWED = {
    "batch_size": or_none(whole(1, 65_536)),
    "length": or_none(whole(1, 65_536)),
    "d_model": or_none(whole(1, 16_384)),
    "n_layers": or_none(whole(1, 1_024)),
    "beside": or_none(whole(1, 64)),
}
# Sequences, positions, width and layers.
_SIZES, _ON_A_GPU, _ON_A_CPU = tuple(_ALLOWED)[:4], (512, 128, 256, 4), (4, 32, 64, 2)
_RUNS, _RUNS_ON_A_CPU = 5, 3
_BYTES_OF_A_MIXER = 16 * 2**30  # of a GPU, more than any takes with the default sizes
_CORES_OF_A_MIXER = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let everything be said that can be chosen."""
    add = parser.add_argument
    names = ", ".join(part_names("mixer"))
    what = f"{names} or class paths of yours, beside mamba (default: all of them)"
    add("--mixers", metavar="NAME,…", help=what)
    add("--board_size", type=int, default=19, help="whose tokens are read, 2 to 19 (default: 19)")
    said = ("sequences of a step", "tokens of each", "width", "layers")
    for name, what, large, small in zip(_SIZES, said, _ON_A_GPU, _ON_A_CPU, strict=True):
        add(f"--{name}", type=int, help=f"{what} (default: {large}; {small} on a CPU)")
    what = "least time for each mixer, once it is compiled (default: 2)"
    add("--seconds", type=float, default=2.0, help=what)
    what = "seconds a mixer may take to be compiled, and to be timed (default: 180)"
    add("--timeout", type=float, default=180.0, help=what)
    what = "mixers that are compiled at once; each is timed alone (default: 1; what a GPU has"
    add("--beside", type=int, help=f"{what} memory and cores for)")
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    add("--json", metavar="FILE", help="also write the figures to this file, after every mixer")


def checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at; all problems are said in one line."""
    found: list[Problem] = []
    with noted(found):
        check_board_size("board_size", arguments.board_size)
    found += problems_of(arguments, _ALLOWED)
    for name in ("seconds", "timeout"):
        value = getattr(arguments, name)
        if not 0 < value <= _LONGEST_S:
            must = f"be at most {_LONGEST_S}" if value > 0 else "be more than 0"
            found.append(Problem(name, value, must))
    known, mixers = part_names("mixer"), part_names("mixer")
    if arguments.mixers is not None:
        mixers = arguments.mixers.split(",")
        for name in mixers:
            if name not in known and not is_class_path(name):
                must = f"be {', '.join(known)} or the path of a class such as my_package.MyPart"
                found.append(Problem("mixers", name, must))
    arguments.mixers = list(dict.fromkeys([BASELINE, *mixers]))
    device = find_device(arguments, parser, [f"--{problem}" for problem in found])
    for name, size in zip(_SIZES, _ON_A_GPU if device.type == "cuda" else _ON_A_CPU, strict=True):
        if getattr(arguments, name) is None:
            setattr(arguments, name, size)
    if arguments.beside is None:
        arguments.beside = _beside(device)
    return device


def _beside(device: torch.device) -> int:
    """How many mixers are compiled at once."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(free // _BYTES_OF_A_MIXER, (cores or 1) // _CORES_OF_A_MIXER))


def measure(arguments: argparse.Namespace, device: torch.device) -> MixersReport:
    """Time all mixers; a signal leaves the table of those that were."""
    runs = _RUNS if device.type == "cuda" else _RUNS_ON_A_CPU
    sizes = {name: getattr(arguments, name) for name in ("board_size", *_SIZES)}
    asked = Asked(**sizes, device=str(device), seconds=arguments.seconds, runs=runs)
    machine, speeds, mixers = machine_name(device), list[MixerSpeed](), arguments.mixers

    def report() -> MixersReport:
        order = sorted(speeds, key=lambda speed: mixers.index(speed.mixer))
        return MixersReport(machine, asked, tuple(order))

    try:
        with closing(speeds_of(mixers, asked, arguments.beside, arguments.timeout)) as found:
            for speed in found:
                speeds.append(speed)
                place = f"{len(speeds)} of {len(mixers)}: {speed.mixer}"
                print(f"{place}: {speed.in_words()}", file=sys.stderr, flush=True)
                if arguments.json != STANDARD_OUTPUT:
                    write_json(arguments.json, report().as_json())
    except Stopped:
        waiting_for("")
        if speeds:
            tell(report().lines(), arguments.json, report().as_json())
        raise
    return report()


def speeds_of(
    mixers: Sequence[str], asked: Asked, beside: int, timeout_s: float
) -> Generator[MixerSpeed, None, None]:
    """Each mixer's speed; some are compiled at once, each is timed while the others wait.

    Args:
        mixers: their names.
        asked: what is timed of each.
        beside: how many at once; one for which that is too much memory is tried alone.
        timeout_s: seconds until one is compiled, and seconds until it is timed.
    """
    size = math.ceil(len(mixers) / math.ceil(len(mixers) / beside))
    waves = deque(list(mixers[k : k + size]) for k in range(0, len(mixers), size))
    while waves:
        wave = waves.popleft()
        for speed in _wave(wave, asked, timeout_s):
            if len(wave) > 1 and speed.lacks_memory:
                waves.append([speed.mixer])
            else:
                yield speed


def _wave(mixers: Sequence[str], asked: Asked, timeout_s: float) -> Iterator[MixerSpeed]:
    with ExitStack() as stack:
        processes = {mixer: stack.enter_context(MixerProcess()) for mixer in mixers}
        waiting_for(f"compiling {', '.join(mixers)}")
        for mixer, process in processes.items():
            process.begin(mixer, asked)
        until = time.monotonic() + timeout_s
        found: dict[str, Ready] = {}
        for mixer, process in processes.items():
            try:
                found[mixer] = process.ready(until - time.monotonic())
            except NotMeasuredError as error:
                process.end()
                yield MixerSpeed(mixer, missing=_reason(error, "compiled", timeout_s))
        for mixer, ready in found.items():
            waiting_for(f"timing {mixer}")
            process = processes[mixer]
            try:
                times = process.times(timeout_s)
            except NotMeasuredError as error:
                yield MixerSpeed(mixer, ready, missing=_reason(error, "timed", timeout_s))
            else:
                yield MixerSpeed(mixer, ready, tuple(times))
            process.end()


def _reason(error: NotMeasuredError, done: str, timeout_s: float) -> str:
    is_late = isinstance(error, TookTooLongError)
    return f"it was not {done} within {timeout_s:g} s" if is_late else str(error)
