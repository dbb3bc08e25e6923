"""Settings of a model's parts: a frozen record for each, and the record of a user's own class."""

from __future__ import annotations

import importlib
import inspect
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class PartSettings:
    """A part's settings: a frozen dataclass of primitives, whose docstring says what each is.

    ``build`` makes the part of the sizes that its kind is given, and raises ValueError with a line
    for every setting that is out of range; ``num_parameters`` states, of the same sizes, how many
    parameters it will have, by arithmetic, however many that are.

    Attributes:
        free: names of settings that may differ when a checkpoint is loaded or a run goes on,
            because the weights do not depend on them.
    """

    free: ClassVar[tuple[str, ...]] = ()

    def check_on(self, device: torch.device) -> None:
        """Raise ValueError if the code that was asked for cannot run on this device."""


@dataclass(frozen=True)
class MixerSettings(PartSettings, metaclass=ABCMeta):
    """Of a sequence mixer, see ``tessera.model.mixers.base.Mixer``."""

    @abstractmethod
    def build(self, d_model: int) -> nn.Module:
        """The mixer."""

    @abstractmethod
    def num_parameters(self, d_model: int) -> int:
        """Of the mixer."""


@dataclass(frozen=True)
class FeedForwardSettings(PartSettings, metaclass=ABCMeta):
    """Of a layer that changes each position by itself, see ``FeedForward``."""

    @abstractmethod
    def build(self, d_model: int) -> nn.Module:
        """The layer."""

    @abstractmethod
    def num_parameters(self, d_model: int) -> int:
        """Of the layer."""


@dataclass(frozen=True)
class EmbeddingSettings(PartSettings, metaclass=ABCMeta):
    """Of the layer that gives tokens their vectors, see ``Embedding``."""

    @abstractmethod
    def build(self, vocab_size: int, d_model: int, pad_token: int) -> nn.Module:
        """The embedding."""

    @abstractmethod
    def num_parameters(self, vocab_size: int, d_model: int, pad_token: int) -> int:
        """Of the embedding."""


@dataclass(frozen=True)
class HeadSettings(PartSettings, metaclass=ABCMeta):
    """Of the layer that gives vectors their logits, see ``Head``."""

    @abstractmethod
    def build(self, d_model: int, vocab_size: int) -> nn.Module:
        """The head."""

    @abstractmethod
    def num_parameters(self, d_model: int, vocab_size: int) -> int:
        """Of the head."""


def is_class_path(name: str) -> bool:
    """Whether a part's name is the path of a class, such as ``my_package.MyMixer``."""
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


@dataclass(frozen=True)
class OwnPart:
    """A part that a user wrote, found by its class path when it is built.

    Args:
        class_path: package, module and class.
        kind: the class that it has to be one of.
        arguments: of the class, beside the sizes that every part of its kind is given.
    """

    class_path: str
    kind: type[nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self, *sizes: int) -> nn.Module:
        """The part.

        Raises:
            ValueError: a line, if there is no such class, or if it refuses its arguments.
        """
        found = self._found()
        try:
            inspect.signature(found).bind(*sizes, **self.arguments)
        except TypeError as error:
            raise ValueError(f"arguments of {self.class_path}: {error}.") from error
        return found(*sizes, **self.arguments)

    def _found(self) -> type[nn.Module]:
        module, _, name = self.class_path.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError as error:
            raise ValueError(f"{self.class_path} cannot be imported: {error}.") from error
        if not isinstance(found, type) or not issubclass(found, self.kind):
            raise ValueError(f"{self.class_path} must be a {self.kind.__name__}, got {found!r}.")
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise ValueError(f"{self.class_path} must define {missing}.")
        return found
