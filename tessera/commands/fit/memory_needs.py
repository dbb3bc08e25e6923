"""Settings that no memory here can hold, found by arithmetic before anything is built.

The figures are lower bounds: what is refused could not have run, what is let through may still
not fit, which the device says when it happens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from jsonargparse import Namespace

from tessera.accelerator import device_memory
from tessera.data.batch import BYTES_PER_POSITION
from tessera.data.settings import usual_windows
from tessera.go import RULES
from tessera.go.record import BYTES_PER_PLY
from tessera.model import ModelSettings

# What takes memory, how much of it, and the settings that it follows from.
_Need: TypeAlias = tuple[str, Callable[[Namespace], int], tuple[str, ...]]

_TRAINED, _LOADED = 16, 4  # of a parameter: itself, gradient and two moments; itself alone
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_HELD_OUT = {"val": ("validation", ("fit", "validate")), "test": ("test", ("test",))}


def memory_problems(
    settings: Namespace, defaults: Namespace, device: torch.device, command: str
) -> list[str]:
    """One line for each thing that cannot fit into the memory.

    Args:
        settings: of the command, those of the data and the model in their ranges.
        defaults: the same, as they are if nobody sets them.
        device: where the games and the model are.
        command: fit, validate, test or predict.
    """
    there = device_memory(device)
    where = "the GPU" if device.type == "cuda" else "this machine"
    problems: list[str] = []
    named: set[str] = set()
    for what, bytes_of, names in _needs(command, settings):
        num_bytes = bytes_of(settings)
        if num_bytes <= there:
            continue
        # Those that alone are the cause; if none is, all of them together.
        blamed = [
            name
            for name in names
            if bytes_of(settings.clone().update(defaults[name], name)) <= there
        ] or [name for name in names if settings[name] != defaults[name]]
        if named.issuperset(blamed):  # of which it was said already
            continue
        named.update(blamed)
        told = ", ".join(f"{name} (={settings[name]})" for name in blamed or names)
        problems.append(
            f"{told} must fit into the memory: {what} would need at least "
            f"{_in_words(num_bytes)}, and {where} has {_in_words(there)}."
        )
    return problems


def _needs(command: str, settings: Namespace) -> list[_Need]:
    of_parameter = _TRAINED if command == "fit" else _LOADED
    # The sizes among the settings of the parts that are used.
    parts = _model(settings).parts().items()
    sizes = (f"model.{name}.{key}" for name, part in parts for key in vars(part))
    sizes = (name for name in sizes if type(settings[name]) is int)
    weights = ("model.n_layers", "model.d_model", *sizes)
    needs: list[_Need] = [
        ("the model", lambda s: _model(s).num_parameters() * of_parameter, weights)
    ]
    cut = ("data.windows_per_game", "data.context", "data.max_moves")
    if command == "fit":
        needs.append(("a chunk of games", _chunk, ("data.games_per_chunk", *cut)))
        of_step = ("data.batch_size", "data.context", *weights)
        needs.append(("a step of training", _step, of_step))
    for part, (what, used_by) in _HELD_OUT.items():
        if command in used_by:
            of_part = (f"data.{part}_batches", "data.batch_size", *cut)
            needs.append((f"the games of a {what}", partial(_held_out, part), of_part))
    return needs


def _model(s: Namespace) -> ModelSettings:
    """What the model is made of."""
    return ModelSettings.of(s.model.as_dict())


def _plies(s: Namespace) -> int:
    """The longest game there can be; a record has room for it."""
    given = s["data.max_moves"]
    return RULES[s["data.rules"]].move_limit(s["data.board_size"]) if given is None else given


def _windows(s: Namespace) -> int:
    given = s["data.windows_per_game"]
    return usual_windows(s["data.board_size"], s["data.context"]) if given is None else given


def _games(s: Namespace, games: int, rows: int) -> int:
    """Games that are held at once, and as many rows cut from them."""
    windows = 0 if s["data.context"] is None else rows * s["data.context"]
    width = max(_plies(s) + 1, s["data.context"] or 0)
    per_game = BYTES_PER_PLY * _plies(s) + BYTES_PER_POSITION * width
    return games * per_game + BYTES_PER_POSITION * windows


def _batch_size(s: Namespace) -> int:
    """The least that a batch can have."""
    given = s["data.batch_size"]
    return given if isinstance(given, int) else 1


def _chunk(s: Namespace) -> int:
    games = s["data.games_per_chunk"] or 1
    return _games(s, games, games * _windows(s))


def _held_out(part: str, s: Namespace) -> int:
    rows = s[f"data.{part}_batches"] * _batch_size(s)
    return _games(s, -(-rows // _windows(s)), rows)


def _step(s: Namespace) -> int:
    """What the backward pass finds of the channels: two rows in, two out, of two bytes."""
    model = _model(s)
    # Of a mixer that is not known, its input only.
    expand = min(4 * getattr(getattr(model, name, None), "expand", 0.25) for name in model.mixers())
    kept = model.d_model * (1 if model.checkpoint_activations else int(expand))
    return 2 * _batch_size(s) * (s["data.context"] or 1) * model.n_layers * kept


def _in_words(num_bytes: int) -> str:
    size, unit = float(num_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:,.1f} {_UNITS[unit]}"
