"""Settings of a model's parts: a frozen record for each."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class PartSettings:
    """A part's settings: a frozen dataclass of primitives, whose docstring says what each is.

    ``build`` makes the part of the sizes that its kind is given, and raises SettingError with a
    problem for every setting that is out of range; ``num_parameters`` states, of the same sizes,
    how many parameters it will have, by arithmetic, however many that are.

    Attributes:
        free: names of settings that may differ when a checkpoint is loaded or a run goes on,
            because the weights do not depend on them.
    """

    free: ClassVar[tuple[str, ...]] = ()

    def check_on(self, device: torch.device) -> None:
        """Raise SettingError if the code that was asked for cannot run on this device."""


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
