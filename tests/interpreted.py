"""Modules of tests that run kernels in Triton's interpreter, which needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import python_path

ROOT = Path(__file__).parents[1]


def begun(module: str, *arguments: object) -> subprocess.Popen[str]:
    """The process of a module."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": python_path(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def succeed(*processes: subprocess.Popen[str]) -> None:
    """Wait for processes to end well; skip where their Triton cannot."""
    said = "".join(process.communicate()[1] for process in processes)
    if "0-dimensional arrays can be converted" in said:
        pytest.skip("this Triton's interpreter cannot loop under this NumPy")
    assert not any(process.returncode for process in processes), said[-4000:]


def found_by(module: str, file: Path, *arguments: object) -> Any:
    """What a module writes to a file, the first of its arguments."""
    succeed(begun(module, file, *arguments))
    return torch.load(file)
