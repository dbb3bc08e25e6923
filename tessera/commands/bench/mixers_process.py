"""A mixer's training step, timed in a process of its own.

``python -m tessera.commands.bench.mixers_process`` reads what to train from its standard input, a
line of JSON, says when it is compiled, and times it once it hears another line.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tessera.commands.bench.fresh_process import FreshProcess
from tessera.commands.one_line import one_line
from tessera.model import ModelSettings, graphs

_WARM_UP_STEPS, _WARM_UP_STEPS_ON_A_CPU = 5, 1  # the third captures what the second left
_STEPS_AT_ONCE = 4
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is timed, of any mixer.

    Attributes:
        board_size: n, whose tokens are drawn.
        d_model, n_layers: of the model.
        batch_size, length: sequences, and the positions of each.
        device: in words.
        seconds: least time.
        runs: parts of it.
    """

    board_size: int
    d_model: int
    n_layers: int
    batch_size: int
    length: int
    device: str
    seconds: float
    runs: int

    def model(self, mixer: str) -> ModelSettings:
        """The model's settings."""
        vocab_size = self.board_size**2 + 3
        return ModelSettings(vocab_size, self.d_model, n_layers=self.n_layers, mixer=mixer)


@dataclass(frozen=True, slots=True)
class Ready:
    """A mixer that is compiled.

    Attributes:
        parameters: of the whole model.
        seconds: that this took, from the question on.
        peak_mb: the most memory that torch took of the card, in MiB; None on a CPU.
        step: how a step runs: as a CUDA graph, or why not.
    """

    parameters: int
    seconds: float
    peak_mb: float | None
    step: str


class MixerProcess(FreshProcess):
    """A process for one mixer; a context manager, which ends it."""

    def __init__(self) -> None:
        super().__init__(__spec__.name)

    def begin(self, mixer: str, asked: Asked) -> None:
        """Let it build and compile the mixer."""
        self.tell({"mixer": mixer, **asdict(asked)})

    def ready(self, timeout_s: float) -> Ready:
        """What is known of the compiled mixer.

        Raises:
            NotMeasuredError: saying why it cannot be timed.
        """
        return Ready(**self.hear(timeout_s))

    def times(self, timeout_s: float) -> list[float]:
        """Seconds of a step, of each run.

        Raises:
            NotMeasuredError: saying why it cannot be timed.
        """
        self.tell({"go": True})
        times: list[float] = self.hear(timeout_s)["seconds"]
        return times


def main() -> int:
    """Answer for one mixer; 0."""
    import torch

    from tessera.commands.bench import train_speed  # noqa: F401 loaded before anything is asked

    question = json.loads(sys.stdin.readline() or "null")
    if question is None:  # nobody wanted a mixer
        return 0
    mixer = question.pop("mixer")

    def answer(what: dict[str, Any]) -> None:
        print(json.dumps(what), flush=True)

    try:
        ready, times = prepared(mixer, Asked(**question))
        answer(asdict(ready))
        if sys.stdin.readline():
            answer({"seconds": times()})
    except torch.OutOfMemoryError:
        answer({"missing": OUT_OF_MEMORY})
    except Exception as error:  # of whatever a mixer is made of, a user's own too
        answer({"missing": one_line(" ".join(str(error).split()) or type(error).__name__)})
    return 0


def prepared(mixer: str, asked: Asked) -> tuple[Ready, Callable[[], list[float]]]:
    """A mixer that is compiled, and what times its steps: seconds of one, for each run."""
    import torch

    from tessera.commands.bench.engine_speed import Timing
    from tessera.commands.bench.train_speed import training_step
    from tessera.model import GameModel

    began = time.perf_counter()
    device = torch.device(asked.device)
    is_gpu = device.type == "cuda"
    torch.manual_seed(0)
    if is_gpu:
        torch.cuda.set_device(device.index or 0)  # which "cuda" alone does not name
    with _Warnings() as warnings:
        model = GameModel(asked.model(mixer)).to(device).train()
        shape = asked.batch_size, asked.length + 1
        drawn = torch.randint(asked.board_size**2, shape, device=device)
        tokens, targets = drawn[:, :-1], drawn[:, 1:]
        step = training_step(model, device, is_graphed=is_gpu)
        for _ in range(_WARM_UP_STEPS if is_gpu else _WARM_UP_STEPS_ON_A_CPU):
            step(tokens, targets)
    if is_gpu:
        torch.cuda.synchronize()
    peak_mb = torch.cuda.max_memory_reserved(device) / 2**20 if is_gpu else None
    parameters = sum(weight.numel() for weight in model.parameters())
    how = warnings.how_steps_run() if is_gpu else "plain"
    ready = Ready(parameters, time.perf_counter() - began, peak_mb, how)
    steps = _STEPS_AT_ONCE if is_gpu else 1

    def some(_: int) -> int:
        for _ in range(steps):
            step(tokens, targets)
        return steps

    def times() -> list[float]:
        runs = Timing(device, asked.seconds, asked.runs).repeat(some)
        return [run.seconds / run.num_done for run in runs]

    return ready, times


class _Warnings(logging.Handler):
    """What the program says meanwhile of how it runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, None] = {}
        self._is_graph = True

    def __enter__(self) -> _Warnings:
        logging.getLogger("tessera").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("tessera").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._said[one_line(record.getMessage())] = None
        self._is_graph &= record.name != graphs.__name__

    def how_steps_run(self) -> str:
        """As a CUDA graph, and what else was said."""
        return "; ".join([*(["CUDA graph"] if self._is_graph else []), *self._said])


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    raise SystemExit(main())
