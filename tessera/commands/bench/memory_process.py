"""A run on a GPU, measured in a process of its own: nothing is left there by runs before it.

``python -m tessera.commands.bench.memory_process`` reads what to run from its standard input, a
line of JSON, and answers with another.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from tessera.commands.bench.fresh_process import FreshProcess
from tessera.commands.bench.memory_rows import INFERENCE, MemoryRow
from tessera.commands.bench.rivals import NotMeasuredError

_STEPS = 3  # whose median counts
_WARM_UP_STEPS = 2  # kernels are compiled, moments and workspaces are taken
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run took of a GPU.

    Attributes:
        weights: bytes that torch gave for the model.
        peak: the most bytes that it had given out at once during a step, workspaces among them.
        seconds: of a step, the median.
    """

    weights: int
    peak: int
    seconds: float


class RunProcess(FreshProcess):
    """A process that is ready for one run; a context manager, which ends it.

    It loads torch at once, and takes nothing of the GPU before it is asked.
    """

    def __init__(self) -> None:
        super().__init__(__spec__.name)

    def begin(self, row: MemoryRow, precision: str, device: str, needed: int) -> None:
        """Let it run the row.

        Args:
            row: what to run.
            precision: of training.
            device: a CUDA device.
            needed: bytes that must be free for it to begin.
        """
        asked = {**row._asdict(), "model": row.model.as_dict()}
        self.tell(asked | {"precision": precision, "device": device, "needed": needed})

    def measured(self) -> Measured:
        """What was found.

        Raises:
            NotMeasuredError: saying why, if there is no such device, if less memory is free, if it
                runs out, or if the process ends otherwise.
        """
        return Measured(**self.hear())


def main() -> int:
    """Answer one question; 0."""
    import torch

    # What the run needs is loaded before it is asked for.
    from tessera.commands.bench import memory_run  # noqa: F401
    from tessera.model import ModelSettings

    asked = json.loads(sys.stdin.readline() or "null")
    if asked is None:  # nobody wanted a run
        return 0
    precision, name, needed = (asked.pop(key) for key in ("precision", "device", "needed"))
    row = MemoryRow(**{**asked, "model": ModelSettings(**asked["model"])})
    answer: dict[str, Any]
    try:
        if not torch.cuda.is_available():
            raise NotMeasuredError("torch finds no CUDA device")
        device = torch.device(name)
        free, _ = torch.cuda.mem_get_info(device)
        if free < needed:
            raise NotMeasuredError(
                f"needs at least {_in_words(needed)}, {_in_words(free)} are free"
            )
        answer = asdict(_measured(row, precision, device))
    except NotMeasuredError as error:
        answer = {"missing": str(error)}
    except torch.OutOfMemoryError:
        answer = {"missing": f"out of memory, of which {_in_words(free)} were free"}
    print(json.dumps(answer))
    return 0


def _measured(row: MemoryRow, precision: str, device: Any) -> Measured:
    import torch

    from tessera.commands.bench.memory_run import (
        inference,
        new_model,
        new_optimizer,
        tokens_of,
        training_step,
    )

    torch.manual_seed(0)
    is_trained = row.mode != INFERENCE
    with torch.cuda.device(device):
        before = torch.cuda.memory_allocated()
        with torch.device(device):
            model = new_model(row.model, is_trained, precision)
            weights = torch.cuda.memory_allocated() - before
            tokens_BL = tokens_of(model, row.batch_size, row.length)
        if is_trained:
            step = training_step(model, new_optimizer(model), tokens_BL, precision)
        else:

            def step() -> None:
                inference(model, tokens_BL)

        for _ in range(_WARM_UP_STEPS):
            step()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(_STEPS):
            began = time.perf_counter()
            step()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated()
    return Measured(weights, peak, statistics.median(seconds))


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes / _MIB:,.0f} MiB"


if __name__ == "__main__":
    raise SystemExit(main())
