"""All settings of a run, looked at together before anything is built or written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jsonargparse import Namespace

from tessera.commands.fit.memory_needs import memory_problems
from tessera.commands.fit.trainer_settings import trainer_problems
from tessera.commands.one_line import one_line
from tessera.data import GameDataModule
from tessera.go.backend import resolve_backend
from tessera.model import ModelSettings
from tessera.model.settings import made_of
from tessera.monitor import Defragmentation, TesseraMonitor
from tessera.training.module import TesseraModule

_MOST_THREADS = 1024  # a system gives out only so many, and no machine has as many cores
_RANGES = {
    "checkpoint_every_n_steps": (1, math.inf),
    "picture_every_n_validations": (0, math.inf),
    "cpu_threads": (1, _MOST_THREADS),
    "seed_everything": (0, 2**32 - 1),  # of torch's and NumPy's generators
}
_TOO_LARGE = 2**63


def run_problems(settings: Namespace, defaults: Namespace, command: str) -> list[str]:
    """One line for every setting that cannot be run.

    Args:
        settings: of the command, parsed.
        defaults: the same, where nothing is set.
        command: fit, validate, test or predict.
    """
    if problems := _unusable(settings):
        return problems
    problems = [
        f"{name} must be {f'at least {low}' if high == math.inf else f'{low} to {high}'}, "
        f"got {settings[name]}."
        for name, (low, high) in _RANGES.items()
        if settings[name] is not None and not low <= settings[name] <= high
    ]
    # Configurations that were written down hold them; there is nothing to choose.
    problems += [
        f"{name} must be null, got {settings[name]}."
        for name in ("weights_only", "return_predictions")
        if settings.get(name) is not None
    ]
    problems += trainer_problems(settings.trainer, command)
    of_data = _refused(GameDataModule, settings.data)
    problems += of_data
    problems += _refused(TesseraMonitor, settings.monitor)
    problems += _refused(Defragmentation, settings.defragmentation)
    of_model = _of_the_model(settings, defaults, command, has_data=not of_data)
    # Of code that there is nowhere it need not be said that it is not here.
    return problems + of_model + ([] if of_data or of_model else _of_the_device(settings))


def _unusable(settings: Namespace) -> list[str]:
    """Numbers and texts that nothing can be done with; they would break other checks."""
    problems = []
    for name, value in settings.items():  # of all sections, by their whole names
        if name == "model.vocab_size":  # follows from data.board_size
            continue
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{name} must be a finite number, got {value}.")
        if isinstance(value, int) and abs(value) >= _TOO_LARGE:
            problems.append(f"{name} must be less than 2^63, got one of {value.bit_length()} bits.")
        if isinstance(value, str) and not value.isprintable():
            problems.append(one_line(f"{name} must be letters that can be printed, got {value}."))
    return problems


def _of_the_model(
    settings: Namespace, defaults: Namespace, command: str, has_data: bool
) -> list[str]:
    """What the model refuses, and what has no room in the memory."""
    given = settings.model.as_dict()
    if not has_data:  # and so no vocabulary
        del given["vocab_size"]
    model = ModelSettings(**made_of(given))
    if problems := _refused(model.check, ()):
        return [f"model.{line}" for line in problems]
    # A model is built last, and without memory: of huge sizes not even that could be done.
    if has_data:
        every, usual = _flat(settings), _flat(defaults)
        if problems := memory_problems(every, usual, device_of(settings), command):
            return problems
        if problems := _refused(model.try_own, (device_of(settings),)):
            return [f"model.{line}" for line in problems]
    # Every round of the mixers is like the first, so no more than one and two blocks are built.
    num_kinds = 1 if isinstance(model.mixer, str) else len(model.mixer)
    smaller = {**given, "n_layers": min(max(2, num_kinds), model.n_layers)}
    with torch.device("meta"):
        return _refused(TesseraModule, smaller)


def _of_the_device(settings: Namespace) -> list[str]:
    """Code that was asked for by name and does not run on the device of this run."""
    device = device_of(settings)
    problems = [
        f"data.{line}" for line in _refused(resolve_backend, (settings.data.backend, device))
    ]
    for name, part in ModelSettings(**made_of(settings.model.as_dict())).parts().items():
        problems += [f"model.{name}.{line}" for line in _refused(part.check_on, (device,))]
    return problems


def device_of(settings: Namespace) -> torch.device:
    """The first device of a run."""
    is_gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", 0) if is_gpu else torch.device("cpu")


def _flat(settings: Namespace) -> dict[str, Any]:
    """The settings of data and model by their whole names."""
    return {
        f"{part}.{name}": value
        for part in ("data", "model")
        for name, value in settings[part].items()
    }


def _refused(build: Callable[..., object], given: Any) -> list[str]:
    """The lines in which something is refused; none if it is not."""
    try:
        build(*given) if isinstance(given, tuple) else build(**given)
    except ValueError as error:
        return str(error).splitlines()
    return []
