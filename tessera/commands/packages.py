"""Which version of a package is installed, whether it can be imported, and if not, why."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys

_TIMEOUT_S = 60
_PROGRAM = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    importlib.import_module(sys.argv[2])
except Exception as error:
    from tessera.commands.packages import import_fault
    print()
    print(import_fault(error))
    sys.exit(1)
"""


def version_of(distribution: str) -> str:
    """The version that is installed, empty if none is."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def import_fault(error: Exception) -> str:
    """What an import raised, in a line: the package that is missing, the symbol, the library."""
    said = " ".join(str(error).split()).rstrip(".")
    return said if isinstance(error, ImportError) else f"{type(error).__name__}: {said}"


def fault_in_a_process(module: str) -> str:
    """Why a module cannot be imported, in a process that it may end; empty if it can."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), module]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the import takes more than {_TIMEOUT_S} s"
    code = done.returncode
    if code < 0:
        return f"the import ends Python with {signal.Signals(-code).name}"
    # The package itself may have printed something before.
    said = done.stdout.rpartition("\n\n")[2].strip() or f"the import ends Python with code {code}"
    return said if code else ""
