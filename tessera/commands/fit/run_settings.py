"""All settings of a run, looked at together before anything is built or written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import Namespace

from tessera.commands.fit.memory_needs import memory_problems
from tessera.commands.fit.trainer_settings import has_several_processes, trainer_problems
from tessera.commands.one_line import one_line
from tessera.data import GameDataModule
from tessera.go.backend import resolve_backend
from tessera.model import ModelSettings
from tessera.monitor import Defragmentation, TesseraMonitor
from tessera.setting_errors import Problem, fits, noted, or_none, problems_of, under, whole
from tessera.training.module import TesseraModule
from tessera.training.objectives import OBJECTIVES

_MOST_THREADS = 1024  # a system gives out only so many, and no machine has as many cores
_MOST_SEED = 2**32 - 1  # of torch's and NumPy's generators
_NOTHING = fits("null", lambda value: value is None)
_ALLOWED = {
    "checkpoint_every_n_steps": or_none(whole(1)),
    "export_every_n_steps": whole(0),
    "picture_every_n_validations": or_none(whole(0)),
    "cpu_threads": or_none(fits(f"1 to {_MOST_THREADS}", lambda n: 1 <= n <= _MOST_THREADS)),
    "seed_everything": or_none(fits(f"0 to {_MOST_SEED}", lambda seed: 0 <= seed <= _MOST_SEED)),
    # Configurations that were written down hold them; there is nothing to choose.
    "weights_only": _NOTHING,
    "return_predictions": _NOTHING,
}
_TOO_LARGE = 2**63

Lines = Sequence[Problem | str]


def root_of(settings: Namespace) -> Path:
    """The folder that holds checkpoints/ and lightning_logs/."""
    return Path(settings.trainer.default_root_dir or "")


def run_name_of(settings: Namespace) -> str:
    """The run's name: given, or that of the first configuration file."""
    if settings.run_name is not None:
        return settings.run_name
    files = settings.config or []
    return Path(str(files[0])).stem if files else "tessera"


def run_problems(settings: Namespace, defaults: Namespace, command: str) -> Lines:
    """A line for every setting that cannot be run.

    Args:
        settings: of the command, parsed.
        defaults: the same, where nothing is set.
        command: fit, validate, test or predict.
    """
    if problems := _unusable(settings):
        return problems
    has_outcome = settings.model.outcome != "none"
    problems = [
        *problems_of(settings, _ALLOWED),
        *trainer_problems(settings.trainer, command, has_outcome),
    ]
    problems += _of_the_objective(settings) if command == "fit" else []
    rooms = {"data": GameDataModule, "monitor": TesseraMonitor, "defragmentation": Defragmentation}
    refused: list[Problem] = []
    for section, build in rooms.items():
        with noted(refused), under(section):
            build(**settings[section])
    has_data = all(problem.section != "data." for problem in refused)
    of_model = _of_the_model(settings, defaults, command, has_data)
    # Of code that there is nowhere it need not be said that it is not here.
    of_device = _of_the_device(settings) if has_data and not of_model else []
    return [*problems, *refused, *of_model, *of_device]


def _of_the_objective(settings: Namespace) -> list[Problem]:
    """What the objective does not allow that is no setting of the model."""
    objective = settings.model.objective
    if objective == "expert_iteration":
        return _of_the_pool(settings)
    if objective not in OBJECTIVES or not OBJECTIVES[objective].is_alone:
        return []
    trainer, share = settings.trainer, settings.data.selfplay_share
    several, batches = has_several_processes(trainer), trainer.accumulate_grad_batches
    found = (
        ("trainer.devices", trainer.devices, "be 1", several),
        ("trainer.accumulate_grad_batches", batches, "be 1", batches != 1),
        ("data.selfplay_share", share, "be 0", share != 0),
    )
    return [
        Problem(name, value, f"{must} for objective {objective}")
        for name, value, must, is_wrong in found
        if is_wrong
    ]


def _of_the_pool(settings: Namespace) -> list[Problem]:
    """Games against past versions, of which one comes with each validation behind so many steps."""
    trainer, share = settings.trainer, settings.model.expert_iteration.pool_share
    is_counted = isinstance(trainer.val_check_interval, int) and trainer.limit_val_batches != 0
    if not share or is_counted or trainer.fast_dev_run:
        return []
    told = "trainer.val_check_interval a number of steps and trainer.limit_val_batches not 0"
    must = f"be 0 unless past versions come with validations, {told}"
    return [Problem("model.expert_iteration.pool_share", share, must)]


def _unusable(settings: Namespace) -> Lines:
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


def _of_the_model(settings: Namespace, defaults: Namespace, command: str, has_data: bool) -> Lines:
    """What the model refuses, and what has no room in the memory."""
    given = settings.model.as_dict()
    if not has_data:  # and so no vocabulary
        del given["vocab_size"]
    model, device = ModelSettings.of(given), device_of(settings)
    problems: list[Problem] = []
    try:
        with noted(problems), under("model"):
            model.check()
            # A model is built last, and without memory: of huge sizes not even that could be done.
            if has_data:
                if lines := memory_problems(settings, defaults, device, command):
                    return lines
                model.try_own(device)
            # Every round of the mixers is like the first: one of them, and two blocks, are enough.
            num_kinds = 1 if isinstance(model.mixer, str) else len(model.mixer)
            smaller = {**given, "n_layers": min(max(2, num_kinds), model.n_layers)}
            with torch.device("meta"):
                TesseraModule(**smaller)
    except ValueError as error:  # of a part of the user's own, in words of its own
        return [f"model: {line}" for line in str(error).splitlines()]
    return problems


def _of_the_device(settings: Namespace) -> list[Problem]:
    """Code that was asked for by name and does not run on the device of this run."""
    device, problems = device_of(settings), list[Problem]()
    with noted(problems), under("data"):
        resolve_backend(settings.data.backend, device)
    for name, part in ModelSettings.of(settings.model.as_dict()).parts().items():
        with noted(problems), under(f"model.{name}"):
            part.check_on(device)
    return problems


def device_of(settings: Namespace) -> torch.device:
    """The first device of a run."""
    is_gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", 0) if is_gpu else torch.device("cpu")
