"""A GPU that is not there: Triton compiles for it what is launched on the CPU's tensors.

Nothing that is launched is run, so results are garbage. For a process of its own: Triton keeps what
it has compiled.
"""

from __future__ import annotations

from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from tessera import accelerator

launched: list[str] = []  # names of kernels
compiled: list[str] = []  # of those that were compiled at their launch


class _Launcher:
    def __init__(self, source: Any, metadata: Any) -> None:
        self._name = metadata.name

    def __call__(self, *arguments: Any) -> None:
        launched.append(self._name)


class _Binaries:
    def load_binary(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        return name, name, 0, 0, 1024

    def unload_module(self, module: Any) -> None: ...

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 2**20, "multiprocessor_count": 132}


class _Driver:
    utils, launcher_cls = _Binaries(), _Launcher

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def _note(*, fn: Any, is_manual_warmup: bool, **_: Any) -> None:
    if not is_manual_warmup:
        compiled.append(fn.name)


driver.set_active(_Driver())
knobs.runtime.jit_post_compile_hook = _note
accelerator.triton_obstacle = lambda device: ""
