"""How a command ends: what is said about an error, and the exit code."""

from __future__ import annotations

import os
import signal
import sys

from tessera.commands.console import OutputLost, go_on_without_console
from tessera.signals import Stopped

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def say(message: str, code: int) -> int:
    """Write the message to standard error, a line for each of its lines; returns the code."""
    for line in message.splitlines():
        print(f"tessera: {line}", file=sys.stderr)
    return code


def say_which(asked_for: str, path: os.PathLike[str]) -> None:
    """Say on standard error which file ``last`` was: a later run of that name changes it.

    Raises:
        OutputLost: if what was printed before is written nowhere; then that alone is said.
    """
    if asked_for == "last":
        sys.stdout.flush()
        print(f"tessera: last is {path}", file=sys.stderr)


def ended_by(error: BaseException) -> int | None:
    """Say in a line what ended the command.

    Returns:
        130, 143 or 129 for a signal; 141 if nobody reads the output any more, as if by SIGPIPE; 1
        for a fault of the machine; None for anything else, which is a fault of the program.
    """
    go_on_without_console(silently=True)
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(signal.SIGINT)
    if isinstance(error, Stopped):
        code = 128 + error.number
        return say(f"{error}.", code) if is_first_process() else code
    if isinstance(error, OutputLost):
        return 128 + signal.SIGPIPE if error.has_no_reader else say(str(error), 1)
    fault = machine_fault(error)
    return None if fault is None else say(fault, 1)


def machine_fault(error: BaseException) -> str | None:
    """What is wrong with the machine, in a line; None if the error is none of its."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, OSError):
        return f"{in_words(error)}."
    if isinstance(error, MemoryError):
        return f"{text}." if text.startswith("out of memory") else "out of memory."
    # torch's own kinds of RuntimeError, known without loading it.
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "out of memory."
    if isinstance(error, RuntimeError) and text == "can't start new thread":
        return "no more threads can be started here (see ulimit -u)."
    return None


def in_words(error: OSError) -> str:
    """``PATH: No space left on device``."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    named = isinstance(error.filename, str | bytes)
    return f"{os.fsdecode(error.filename)}: {reason}" if named else reason


def is_first_process() -> bool:
    """Whether this is the process, of all that train one model, that speaks to people."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    return rank == "0"
