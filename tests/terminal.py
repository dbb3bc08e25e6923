"""A command on a terminal, and what a person sees there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout

from tests.runs import tessera


def on_terminal(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of ``tessera`` with these arguments, and all that it wrote to its terminal."""
    ours, its = pty.openpty()
    command = [sys.executable, "-W", "ignore", "-m", "tessera", *arguments]
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, **(environment or {})}
    )
    os.close(its)
    written = _read(ours)
    return process.wait(), written


def on_terminal_here(*arguments: str) -> tuple[int, str]:
    """As ``on_terminal`` without a process of its own, which takes seconds to begin."""
    ours, its = pty.openpty()
    written: list[str] = []
    reader = threading.Thread(target=lambda: written.append(_read(ours)))
    reader.start()
    try:
        with open(its, "w") as terminal, redirect_stdout(terminal), redirect_stderr(terminal):
            code = tessera(*arguments)
    finally:
        reader.join()
    return code, written[0]


def _read(terminal: int) -> str:
    """All that is written to a terminal until nobody holds its other end any more."""
    written = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux says so when nobody holds the other end any more
            break
        if not part:
            break
        written += part
    os.close(terminal)
    return written.decode()


def seen(written: str) -> list[str]:
    """The lines that are left on the terminal, as what is written at a line's start overwrites."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        shown = ""
        for text in line.split("\r"):
            shown = text + shown[len(text) :]
        lines.append(shown.rstrip())
    return lines
