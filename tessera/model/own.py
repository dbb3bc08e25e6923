"""A part that a user wrote: found by its class path, built, and tried before a run begins."""

from __future__ import annotations

import difflib
import importlib
import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tessera.accelerator import device_memory, is_out_of_memory
from tessera.model.trial import try_part
from tessera.setting_errors import Problem, SettingError

# Where what a user's code raises may come to light, though it began in a line of the user's.
_NOT_THEIRS = (
    *(str(Path(file).parent) for file in (torch.__file__, importlib.__file__, __file__)),
    "<",
)


def is_class_path(name: str) -> bool:
    """Whether a part's name is the path of a class, such as ``my_package.MyMixer``."""
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


@dataclass(frozen=True)
class OwnPart:
    """A part of a user's own; nothing is imported before it is built.

    Args:
        part: embedding, mixer, feed_forward or head: the setting that names it.
        class_path: package, module and class.
        kind: the class that it has to be one of.
        arguments: of the class, beside the sizes that every part of its kind is given.
    """

    part: str
    class_path: str
    kind: type[nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self, *sizes: int) -> nn.Module:
        """The part.

        Raises:
            SettingError: if there is no such class, if it refuses its arguments, or for whatever
                its code raises.
        """
        found = self._found()
        try:
            inspect.signature(found).bind(*sizes, **self.arguments)
        except TypeError as error:
            raise self._error(f"arguments of {self.class_path}: {error}.") from error
        device = torch.get_default_device()
        is_described = device.type == "meta"
        # Not every class can be built without memory, so none has to.
        with (
            self._told(device),
            torch.random.fork_rng(devices=[], enabled=is_described),
            torch.device("cpu" if is_described else device),
        ):
            return found(*sizes, **self.arguments).to(device)

    def try_on(self, device: torch.device, *sizes: int) -> None:
        """Build one and ask it for everything that a model asks, on a few positions.

        Raises:
            SettingError: as ``build``, or with what it has to answer.
        """
        with torch.random.fork_rng(devices=[]):
            part = self.build(*sizes)
            with self._told(device):
                try_part(part.to(device), device, *sizes)

    def _found(self) -> type[nn.Module]:
        path, kind = self.class_path, self.kind
        module, _, name = path.rpartition(".")
        try:
            imported = importlib.import_module(module)
        except ModuleNotFoundError as error:
            asks = f"is {error.name} installed, or its folder in PYTHONPATH?"
            raise self._error(f"{path} cannot be imported: {asks}") from error
        except (Exception, SystemExit) as error:
            raise self._error(*_lines(module, error)) from error
        found = getattr(imported, name, None)
        if found is None:
            others = [key for key, value in vars(imported).items() if _is_a(value, kind)]
            close = difflib.get_close_matches(name, others, 1)
            hint = f" Did you mean {module}.{close[0]}?" if close else ""
            raise self._error(f"{module} has no {name}.{hint}")
        if not _is_a(found, kind):
            raise self._error(f"{path} must be a class derived from tessera.model.{kind.__name__}.")
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise self._error(f"{path} must define {missing}.")
        return found

    @contextmanager
    def _told(self, device: torch.device) -> Iterator[None]:
        """Let whatever a user's code raises be a SettingError."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                room = device_memory(device) / 2**30
                where = "the GPU" if device.type == "cuda" else "this machine"
                line = f"must fit into the memory; {where} has {room:,.1f} GiB."
                raise self._error(f"{self.class_path} {line}") from error
            raise self._error(*_lines(self.class_path, error)) from error

    def _error(self, *lines: str) -> SettingError:
        form = "{name}: {value}"
        return SettingError(*(Problem(self.part, line, "be of use", form=form) for line in lines))


def _is_a(found: Any, kind: type[nn.Module]) -> bool:
    return isinstance(found, type) and issubclass(found, kind)


def _lines(name: str, error: BaseException) -> list[str]:
    """What was raised, and in which line of whose code; of a ValueError its own lines."""
    text = str(error)
    if isinstance(error, ValueError) and text:
        return [f"{name}: {line}" for line in text.splitlines()]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    where = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""
    said = f": {' '.join(text.split()).rstrip('.')}" if text else ""
    return [f"{name} raised {type(error).__name__}{said}{where}."]
