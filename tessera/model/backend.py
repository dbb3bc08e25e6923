"""The one choice of code for a scan, its plain form or a kernel, and what is said of a fallback."""

from __future__ import annotations

import functools
import importlib
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from tessera.accelerator import triton_obstacle
from tessera.setting_errors import Problem, SettingError, fits

ScanName = Literal["auto", "triton", "mamba_ssm", "torch"]

# A kernel's entry point, or None and why there is none.
FoundKernel: TypeAlias = tuple[Callable[..., tuple[Tensor, Tensor]] | None, str]

_INSTALL = "pip install --no-build-isolation 'tessera[cuda]'"
_Function = TypeVar("_Function", bound=Callable[..., object])

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Code:
    """One implementation of a scan.

    Args:
        run: it.
        obstacle: why it cannot run on a device; empty if it can.
        why: what speaks for it where ``auto`` takes it.
        is_missing: what has to be installed for it; empty if nothing.
    """

    run: Callable[..., tuple[Tensor, Tensor]]
    obstacle: Callable[[torch.device], str]
    why: str
    is_missing: Callable[[], str] = lambda: ""


class Scan(nn.Module):
    """Runs the code that was asked for, and says which that is on a device.

    Args:
        scan: a name in ``codes``, or ``auto``: for CUDA tensors the first of them that can run, and
            the plain form everywhere else.

    Attributes:
        codes: by name, the best first, the plain form last.

    Raises:
        SettingError: if ``scan`` is none of these, or its package is not installed.
    """

    codes: ClassVar[Mapping[ScanName, Code]]

    def __init__(self, scan: ScanName = "auto") -> None:
        super().__init__()
        names = ("auto", *self.codes)
        fits(", ".join(names), lambda scan: scan in names)("scan", scan)
        if scan != "auto" and (missing := self.codes[scan].is_missing()):
            form = "{name} must {must}, got {value}"  # which may end in a command
            value, must = f"{scan}: {missing}", "be auto or torch here"
            raise SettingError(Problem("scan", value, must, form=form))
        self.scan: ScanName = scan

    @classmethod
    def choose_for(cls, scan: ScanName, device: torch.device) -> tuple[ScanName, str]:
        """Which code runs on this device, and why.

        Raises:
            SettingError: if the kernel that was asked for cannot run there.
        """
        if scan != "auto":
            if obstacle := cls.codes[scan].obstacle(device):
                must = f"be auto or torch on {device}"
                raise SettingError(Problem("scan", f"{scan}: {obstacle}", must))
            return scan, "as asked"
        if device.type != "cuda":
            return "torch", "the kernels need a CUDA device"
        best_first, passed_over = iter(cls.codes.items()), []
        taken, code = next(best_first)
        while obstacle := code.obstacle(device):
            passed_over.append(obstacle)
            taken, code = next(best_first)
        return taken, f"slower, but {'; '.join(passed_over)}" if passed_over else code.why

    def choose(self, x: Tensor) -> ScanName:
        """Which code runs on this tensor.

        Raises:
            SettingError: if the kernel that was asked for cannot run where the tensor is.
        """
        return _choose(type(self), self.scan, x.device)

    def forward(self, x: Tensor, *others: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """The output and last state of the scan's plain form, with its arguments.

        Raises:
            SettingError: if the kernel that was asked for cannot run where the tensors are.
        """
        return self.codes[self.choose(x)].run(x, *others, **more)

    def steps_in_kernel(self, x: Tensor) -> bool:
        """Whether a step in place runs in Triton: on a GPU, unless the plain form was asked for."""
        return x.is_cuda and self.scan != "torch" and not triton_obstacle(x.device)

    def extra_repr(self) -> str:
        """What was asked for, for ``print(model)``."""
        return f"scan={self.scan!r}"


def needs_triton(device: torch.device) -> str:
    """Why Triton's kernels cannot run on a device; empty if they can."""
    missing = triton_obstacle(device)
    return f"Triton needs {missing}" if missing else ""


def needs_cuda(device: torch.device) -> str:
    """Why mamba_ssm's kernels cannot run on a device, if they are installed; empty if they can."""
    return "" if device.type == "cuda" else "mamba_ssm needs a CUDA device"


def mamba_ssm_kernel(module: str, name: str, extension: str = "") -> FoundKernel:
    """A kernel's entry point in a module of mamba_ssm, which may have to hold an extension too."""
    try:
        # Its import warns of torch's own deprecations, which nobody here can act on.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(f"mamba_ssm.{module}")
        kernel = getattr(found, name)
    except Exception as error:  # a build for another torch or CUDA raises whatever it likes
        return None, f"mamba_ssm cannot be imported ({error})"
    # Later releases import without their Mamba-1 kernels and fail only when one is called.
    if extension and getattr(found, extension, None) is None:
        return None, f"mamba_ssm is installed without its kernel {extension}"
    return kernel, ""


def missing(found: FoundKernel) -> str:
    """What has to be installed for a kernel; empty if nothing."""
    kernel, problem = found
    return "" if kernel else f"{problem}. {_INSTALL}"


def _constant_when_compiled(function: _Function) -> _Function:
    """Let torch.compile take the answer for the tensors' device as a constant.

    What ``torch.compiler.assume_constant_result`` does, without loading the compiler, which takes
    as long as all the rest of torch.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant_when_compiled
def has_kernels(device: torch.device) -> bool:
    """Whether what has no choice of code runs in Triton there: on a GPU that Triton knows."""
    return device.type == "cuda" and not triton_obstacle(device)


def runs_anywhere(device: torch.device) -> str:
    """Nothing stands in the way of the plain form."""
    return ""


@_constant_when_compiled
def _choose(kind: type[Scan], scan: ScanName, device: torch.device) -> ScanName:
    """What ``choose_for`` chooses; says once if a GPU runs another than the best one."""
    taken, why = kind.choose_for(scan, device)
    if scan == "auto" and device.type == "cuda" and taken != next(iter(kind.codes)):
        _log_fallback(kind.__name__, taken, why)
    return taken


@functools.cache
def _log_fallback(kind: str, taken: ScanName, why: str) -> None:
    """Say once which code a GPU runs in place of the best one, and why."""
    _logger.warning("scan=auto runs %s for %s: %s", taken, kind, why)
