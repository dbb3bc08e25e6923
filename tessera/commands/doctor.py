"""``tessera doctor``: what this machine has, what therefore runs on it, and what is missing."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from tessera.commands.arguments import OneLineParser
from tessera.commands.json_file import json_problems, tell
from tessera.commands.packages import fault_in_a_process, import_fault, version_of
from tessera.commands.table import table

# The versions of Python on which the whole test suite passed.
TESTED_ON = ("3.10", "3.11", "3.12", "3.13")
# Distributions that training needs, and those that only speed it up, compare or test.
_NEEDED = ("torch", "lightning", "jsonargparse", "torchmetrics", "tensorboard", "nvidia-ml-py")
_OPTIONAL = {
    "triton": "pip install triton",
    "mamba-ssm": "pip install --no-build-isolation 'tessera[cuda]'",
    "causal-conv1d": "pip install --no-build-isolation 'tessera[cuda]'",
    "pgx": "pip install 'tessera[rivals]'",
    "open_spiel": "pip install 'tessera[rivals]'",
}
# The module of a distribution that has another name, or that breaks where training needs it.
_MODULES = {
    "lightning": "lightning.pytorch",
    "tensorboard": "torch.utils.tensorboard",
    "nvidia-ml-py": "pynvml",
    "mamba-ssm": "mamba_ssm",
    "causal-conv1d": "causal_conv1d",
    "open_spiel": "pyspiel",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report.

    Attributes:
        what: the part that was looked at.
        found: a version, a device, or what runs.
        note: why, or what to do; empty if there is nothing to say.
        is_missing: whether training cannot do without it, and it is not there.
    """

    what: str
    found: str
    note: str = ""
    is_missing: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera doctor`` with these arguments (those of the process if None).

    Returns:
        0 if training can run here, 1 if something that it needs is missing.
    """
    parser = OneLineParser(prog="tessera doctor", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--json", metavar="FILE", help="also write it to this file; - prints that alone"
    )
    arguments = parser.parse_args(argv)
    if problems := json_problems(arguments.json):
        parser.error(" ".join(problems))
    lines = look()
    rows = [(x.what, f"{x.found} ({x.note})" if x.note else x.found) for x in lines]
    tell(table(rows), arguments.json, [asdict(line) for line in lines])
    return int(any(line.is_missing for line in lines))


def look() -> list[Line]:
    """Everything that the report says."""
    versions = {name: version_of(name) for name in (*_NEEDED, *_OPTIONAL)}
    modules = {name: _MODULES.get(name, name) for name, version in versions.items() if version}
    optional = [name for name in modules if name in _OPTIONAL]
    with ThreadPoolExecutor() as pool:
        reasons = pool.map(fault_in_a_process, (modules[name] for name in optional))
        # These are needed in this process in any case.
        faults = {name: _fault(modules[name]) for name in modules if name in _NEEDED}
    faults |= dict(zip(optional, reasons, strict=True))
    tested = f"tested on {', '.join(TESTED_ON)}"
    lines = [Line("python", platform.python_version(), tested)]
    for name, version in versions.items():
        how = _OPTIONAL.get(name, "pip install tessera")
        is_needed = name in _NEEDED
        if not version:
            lines.append(Line(name, "not installed", how, is_needed))
        elif faults[name]:
            found = f"{version}, which cannot be imported"
            lines.append(Line(name, found, f"{faults[name]}; {how}", is_needed))
        else:
            lines.append(Line(name, version))
    if any(line.is_missing for line in lines):
        return lines
    return lines + _devices()


def _fault(module: str) -> str:
    """Why a module cannot be imported, empty if it can."""
    try:
        importlib.import_module(module)
    except Exception as error:  # of whatever kind: it is what is reported
        return import_fault(error)
    return ""


def _devices() -> list[Line]:
    """Every device, and which code runs on the one that training would take."""
    import torch

    from tessera.accelerator import triton_obstacle
    from tessera.go.backend import resolve_backend
    from tessera.model import DualScan, SelectiveScan

    lines = []
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        capability = f"compute capability {card.major}.{card.minor}"
        size = f"{card.total_memory / 2**30:.1f} GiB"
        lines.append(Line(f"cuda:{index}", card.name, f"{size}, {capability}"))
    device = torch.device("cuda", 0) if lines else torch.device("cpu")
    if not lines:
        built = torch.version.cuda
        why = "this torch is built without CUDA" if built is None else "torch finds no GPU"
        lines.append(Line("cuda", "none", f"{why}; everything runs on the CPU"))
    backend = resolve_backend("auto", device)
    why = f"the Triton kernels need {triton_obstacle(device)}"
    if backend == "triton":
        why = "the kernels are bit-identical to torch and far faster"
    lines.append(Line("engine", f"{backend} on {device}", why))
    for name, kind in (("selective scan", SelectiveScan), ("mamba2 scan", DualScan)):
        scan, why = kind.choose_for("auto", device)
        lines.append(Line(name, f"{scan} on {device}", why))
    return lines
