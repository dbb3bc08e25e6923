"""A command on a terminal, and what a person sees there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping


def on_terminal(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of ``tessera`` with these arguments, and all that it wrote to its terminal."""
    ours, its = pty.openpty()
    command = [sys.executable, "-W", "ignore", "-m", "tessera", *arguments]
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, **(environment or {})}
    )
    os.close(its)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux says so when nobody holds the other end any more
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode()


def seen(written: str) -> list[str]:
    """The lines that are left on the terminal, as what is written at a line's start overwrites."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        shown = ""
        for text in line.split("\r"):
            shown = text + shown[len(text) :]
        lines.append(shown.rstrip())
    return lines
