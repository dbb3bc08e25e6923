"""Runs commands as a person would type them, each in a process and a folder of its own, and judges
how they end.

The processes are forks of one that has imported everything, so a refusal takes a tenth of a second,
and a case that hangs, aborts or takes all memory takes nothing else with it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stderr, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import torch

from tests.runs import SMALL, fit, tessera

LIMIT_S = 20  # for a case
_MEMORY_BYTES = 4 * 2**30  # for a case, beyond what is taken when it begins
_MOST_AT_ONCE = 8
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_LAST = "checkpoints/small/version_0/last.ckpt"
# What a training writes while it goes well.
_PROGRESS = ("step ", "validation at step ", "matches of version ")
# From inside the program and its libraries: nothing that a person knows.
_INNER_NAMES = (
    "ScalarNode(",
    "<unicode string>",
    "Parser key",
    "<class '",
    " object at 0x",
    "values to unpack",
    "set_int_max_str_digits",
    "__new__()",
)

# A file's content; or what writes the file, in a folder that holds the small run.
Content = str | bytes | Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Case:
    """Something that cannot be done, and how the program is to answer.

    Attributes:
        arguments: the command line after ``tessera``, as in a shell. If it names a checkpoint, the
            folder holds a finished run called small; otherwise only small.yaml.
        says: a part of the line that is the answer; of several with `` … `` between, each.
        files: what lies in the folder as well, by name.
        code: the exit code: 2 for a mistake of the user's, 1 for a fault of the machine.
        hinder: within it the machine fails, for the case's own process.
    """

    arguments: str
    says: str = ""
    files: Mapping[str, Content] = field(default_factory=dict)
    code: int = 2
    hinder: Callable[[], AbstractContextManager[None]] = nullcontext

    def __str__(self) -> str:
        written = [repr(content) for content in self.files.values() if not callable(content)]
        return " < ".join([f"tessera {self.arguments}"[:120], *(text[:80] for text in written)])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a case gave.

    Attributes:
        case: it.
        code: the exit code; below 0 for the signal that ended the process, None after LIMIT_S.
        out: what was printed.
        err: what was printed to standard error.
        changes: what is not as it was, of the folder and of the process.
    """

    case: Case
    code: int | None
    out: str
    err: str
    changes: list[str]

    def faults(self) -> list[str]:
        """What is wrong with the answer; nothing if it is as it should be."""
        if self.code is None:
            return [f"no end after {LIMIT_S} s"]
        is_mistake = self.case.code == 2
        faults = [] if self.code == self.case.code else [f"exit code {self.code}"]
        lines = self.err.splitlines()
        if not is_mistake:
            lines = [line for line in lines if not line.startswith(_PROGRESS)]
        if "Traceback (most recent call last)" in self.err:
            faults.append(f"a traceback that ends with {lines[-1]!r}")
        elif len(lines) != 1:
            faults.append(f"{len(lines)} lines: {' | '.join(lines)[:300]}")
        else:
            faults += self._faults_of_line(lines[0])
        if self.out and is_mistake:
            faults.append(f"printed {self.out[:60]!r}")
        return faults + self.changes

    def _faults_of_line(self, line: str) -> list[str]:
        faults = []
        if not re.match(r"tessera(?: \w+){0,2}: .*[^\s:]$", line):
            faults.append(f"a line of another form: {line}")
        missing = [part for part in self.case.says.split(" … ") if part not in line]
        if missing:
            faults.append(f"does not say {', '.join(missing)}: {line}")
        if any(name in line for name in _INNER_NAMES):
            faults.append(f"speaks of the inside: {line}")
        return faults


def judge(tables: Iterable[str], folder: str) -> list[tuple[str, list[str]]]:
    """Every case of the tables in words, and what is wrong with its answer.

    Args:
        tables: functions that yield cases, ``module:name`` with modules of this package.
        folder: an empty one to work in.
    """
    cases: list[Case] = []
    for table in tables:
        module, _, name = table.partition(":")
        cases += getattr(importlib.import_module(f"tests.{module}"), name)()
    return [(str(answer.case), answer.faults()) for answer in answers(cases, Path(folder))]


def answers(cases: Iterable[Case], folder: Path) -> Iterator[Answer]:
    """The answers to cases as they come; several are run at once.

    The process must not have trained: torch cannot go on in a fork of one that did.
    """
    with redirect_stderr(StringIO()):
        tessera("fit", "--none")  # what is imported and set once in a process is so now
    run = folder / "run"
    _train_small(run)
    waiting = list(enumerate(cases))[::-1]
    running: dict[int, tuple[Case, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < min(len(os.sched_getaffinity(0)), _MOST_AT_ONCE):
            number, case = waiting.pop()
            place = folder / str(number)
            place.mkdir()
            pid = os.fork()
            if not pid:
                _answer(case, run, place)
            running[pid] = case, place, time.monotonic()
        pid, code = _ended(running)
        case, place, _ = running.pop(pid)
        out, err, changes = (
            (place / name).read_text(errors="replace") for name in ("out", "err", "changes")
        )
        yield Answer(case, code, out, err, changes.splitlines())
        shutil.rmtree(place)


def _ended(running: Mapping[int, tuple[Case, Path, float]]) -> tuple[int, int | None]:
    """The next process that ends, or is ended, and its exit code."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            with suppress(ProcessLookupError):  # none that it started is left
                os.killpg(pid, signal.SIGKILL)
            return pid, os.waitstatus_to_exitcode(status)
        for pid, (_, _, began) in running.items():
            if time.monotonic() - began > LIMIT_S:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return pid, None
        time.sleep(0.005)


def _train_small(run: Path) -> None:
    run.mkdir()
    (run / "small.yaml").write_text(SMALL)
    pid = os.fork()
    if not pid:
        os.chdir(run)
        _redirect(run.parent)
        os._exit(fit())
    status = os.waitpid(pid, 0)[1]
    assert status == 0, (run.parent / "err").read_text()


def _answer(case: Case, run: Path, place: Path) -> None:
    """In the fork: run the case and end, leaving the files out, err and changes in its place."""
    code = 70
    try:
        os.setsid()  # so that what it starts can be ended with it
        (place / "changes").touch()
        _redirect(place)
        folder = place / "folder"
        if "ckpt" in case.arguments:
            shutil.copytree(run, folder)
        else:
            folder.mkdir()
            shutil.copy(run / "small.yaml", folder)
        os.chdir(folder)
        for name, content in case.files.items():
            if callable(content):
                content(Path(name))
            else:
                Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        sys.executable = "/bin/false"  # what would start programs without end starts none
        with case.hinder():
            files, state = _files(folder), _state()
            code, failure = _run(case.arguments)
            os.chdir(folder)
            changes = _changes(files, _files(folder), case.code)
            changes += _changes(state, _state(), case.code)
        sys.stderr.write(failure)
        (place / "changes").write_text("\n".join(changes))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _run(arguments: str) -> tuple[int, str]:
    """The exit code of a command, and what the interpreter would say at its end."""
    try:
        code = tessera(*shlex.split(arguments))
        sys.stdout.flush()
    except BaseException:
        return 1, traceback.format_exc()
    return code, ""


def _redirect(place: Path) -> None:
    """Let what is printed go into the files out and err, also by libraries in C++."""
    for number, name in ((0, os.devnull), (1, place / "out"), (2, place / "err")):
        file = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _files(folder: Path) -> dict[str, object]:
    """Everything in a folder by name; of a file its time and content."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = None
        if path.is_file() and os.access(path, os.R_OK):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = path.stat().st_mtime_ns, content
    return found


def _state() -> dict[str, object]:
    """What a command can change of its process, and gives back."""
    return {
        "the signals' handlers": [signal.getsignal(number) for number in _SIGNALS],
        "torch's threads": torch.get_num_threads(),
        "torch's default type": torch.get_default_dtype(),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "the working folder": os.getcwd(),
        "the filters of warnings": list(warnings.filters),
    }


def _changes(before: Mapping[str, object], after: Mapping[str, object], code: int) -> list[str]:
    """What is new, gone or changed.

    Args:
        before: by name.
        after: the same later.
        code: the case's; a command whose machine failed may have begun, so of what it left only the
            newest checkpoint before, and files that it hides, are looked at.
    """
    changes = []
    for name in sorted({*before, *after}):
        if code == 1 and name != _LAST and not Path(name).name.startswith("."):
            continue
        if name not in before:
            changes.append(f"new: {name}")
        elif name not in after:
            changes.append(f"gone: {name}")
        elif before[name] != after[name]:
            changes.append(f"changed: {name}")
    return changes
