"""Every copy between host and GPU in a few recorded steps, and which of them nobody owns.

The record is torch.profiler's, read from the Chrome trace that it exports. Of its interfaces this
is the one that has kept its form: the file's categories and arguments (``gpu_memcpy``,
``correlation``, ``bytes``) are read by other tools, whereas the Python objects behind it have
changed from release to release. The recorder is autograd's, which torch.profiler wraps: it starts
in a millisecond, where the wrapper loads torch's compiler first.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import profile

from tessera.transfers import LABEL

_SCOPES = ("cpu_op", "user_annotation")
_LAUNCHES = ("cuda_runtime", "cuda_driver")
_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
# A copy such as "Memcpy DtoH (Device -> Pageable)"; one within the device is no transfer.
_TRANSFER = re.compile(r"\S+ (HtoD|DtoH)\b")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One event of a trace.

    Attributes:
        name: of an operator, an annotation, a call of CUDA or a copy.
        category: as in the Chrome trace.
        thread: process and thread, or device and stream.
        start_us: when it began.
        us: how long it took.
        correlation: the same number for a call of CUDA and what it did on the GPU; None elsewhere.
        num_bytes: of a copy; 0 elsewhere.
    """

    name: str
    category: str
    thread: tuple[str, str]
    start_us: float
    us: float
    correlation: int | None = None
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy between host and GPU.

    Attributes:
        operator: the innermost operator that launched it, such as ``aten::copy_``; a call of CUDA
            where there is none.
        direction: ``HtoD`` or ``DtoH``.
        num_bytes: its size.
        ms: how long it took on the GPU.
        owner: who made it, in ``tessera.transfers``; None if nobody owns it.
        path: everything it happened in, outermost first: annotations and operators.
    """

    operator: str
    direction: str
    num_bytes: int
    ms: float
    owner: str | None
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        path = " > ".join(self.path) or self.operator
        return f"{self.direction} of {self.num_bytes} bytes in {self.ms:.4f} ms by {path}"


class CopyProbe:
    """Records some steps with torch.profiler and finds the copies in them.

    Starting and stopping takes a while and waits for the GPU, so it is done seldom and outside of
    what is timed.

    Args:
        device: a CUDA device; elsewhere there is nothing to copy.

    Attributes:
        why_absent: for ``unowned_copies`` where it cannot be measured, why.
    """

    def __init__(self, device: torch.device) -> None:
        self.why_absent: dict[str, str] = {}
        self._device = device
        self._profile: profile | None = None
        if device.type != "cuda":
            why = f"{device.type} and host are one memory, so nothing is copied"
            self.why_absent = {"unowned_copies": why}

    @property
    def is_recording(self) -> bool:
        """Whether ``start`` was called and ``stop`` was not."""
        return self._profile is not None

    def start(self) -> None:
        """Record from here on."""
        # Without it the recorder writes two lines to the console at each start and stop.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        # Without it CUPTI, which records, stays in the process, and all later launches are slower.
        # Kineto reads it at each start and stop. Leaving and coming back cost a recording some ms.
        os.environ.setdefault("TEARDOWN_CUPTI", "1")
        # What was queued before would be recorded without the call that launched it.
        torch.cuda.synchronize(self._device)
        recorder = profile(use_cpu=True, use_device="cuda", use_kineto=True)
        recorder.__enter__()
        self._profile = recorder

    def stop(self) -> list[Copy]:
        """End the recording, and find the copies in it.

        Raises:
            RuntimeError: if the profiler saw nothing of the GPU, as happens where a container may
                not read its counters; the copies are unknown then, not none.
        """
        recorder, self._profile = self._profile, None
        assert recorder is not None
        recorder.__exit__(None, None, None)
        with tempfile.TemporaryDirectory(prefix="tessera-trace-") as folder:
            path = Path(folder) / "trace.json"
            recorder.export_chrome_trace(str(path))
            events = read_trace(json.loads(path.read_text(errors="replace")))
        # A thread of Kineto's waits for a call of CUDA to let CUPTI go in, and tidies up after it.
        # In the middle of a recording that were to begin at once, nothing of it would be seen.
        for _ in range(3):
            time.sleep(0.005)
            torch.cuda.synchronize(self._device)
        if not any(event.category in _ON_GPU for event in events):
            raise RuntimeError("torch.profiler recorded no activity of the GPU")
        return find_copies(events)

    def close(self) -> None:
        """Drop a recording that was not ended."""
        recorder, self._profile = self._profile, None
        if recorder is not None:
            recorder.__exit__(None, None, None)


def read_trace(trace: Mapping[str, Any]) -> list[TraceEvent]:
    """What matters of a Chrome trace, in its order."""
    return [
        TraceEvent(
            name=str(event["name"]),
            category=str(event["cat"]),
            thread=(str(event.get("pid")), str(event.get("tid"))),
            start_us=float(event["ts"]),
            us=float(event.get("dur", 0.0)),
            correlation=event.get("args", {}).get("correlation"),
            num_bytes=int(event.get("args", {}).get("bytes", 0)),
        )
        for event in trace["traceEvents"]
        if event.get("ph") == "X" and event.get("cat") in (*_SCOPES, *_LAUNCHES, *_ON_GPU)
    ]


def find_copies(events: Iterable[TraceEvent]) -> list[Copy]:
    """The copies between host and GPU with what launched them, in the order of their launches.

    A copy's call of CUDA has the same correlation; what encloses that call in time on its thread
    is what launched the copy.
    """
    events = list(events)
    launches = {e.correlation: e for e in reversed(events) if e.category in _LAUNCHES}
    paths = _paths(events)
    found = []
    for event in events:
        transfer = _TRANSFER.match(event.name)
        if event.category != "gpu_memcpy" or transfer is None:
            continue
        launch = launches.get(event.correlation)
        path = paths.get(id(launch), ())
        operators = [name for name in path if not name.startswith(LABEL)]
        owners = [name.removeprefix(LABEL) for name in path if name.startswith(LABEL)]
        launcher = "unknown" if launch is None else launch.name
        aten = [name for name in operators if name.startswith("aten::")] or operators
        copy = Copy(
            operator=aten[-1] if aten else launcher,
            direction=transfer[1],
            num_bytes=event.num_bytes,
            ms=event.us / 1e3,
            owner=owners[-1] if owners else None,
            path=(*path, launch.name) if launch is not None else path,
        )
        found.append((launch.start_us if launch is not None else event.start_us, copy))
    return [copy for _, copy in sorted(found, key=lambda pair: pair[0])]


def _paths(events: list[TraceEvent]) -> dict[int, tuple[str, ...]]:
    """For each call of CUDA, by its ``id``, the names of what encloses it, outermost first."""
    relevant = [event for event in events if event.category in (*_SCOPES, *_LAUNCHES)]
    # By thread and time; what begins at the same time as what it holds comes first.
    relevant.sort(key=lambda e: (e.thread, e.start_us, e.category in _LAUNCHES, -e.us))
    paths: dict[int, tuple[str, ...]] = {}
    open_scopes: list[TraceEvent] = []
    for event in relevant:
        # A scope began no later; it encloses the event if it still goes on.
        while open_scopes and (
            open_scopes[-1].thread != event.thread
            or open_scopes[-1].start_us + open_scopes[-1].us < event.start_us
        ):
            open_scopes.pop()
        if event.category in _SCOPES:
            open_scopes.append(event)
        else:
            paths[id(event)] = tuple(scope.name for scope in open_scopes)
    return paths
