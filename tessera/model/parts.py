"""Settings of a model's parts: a frozen record for each."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class PartSettings(metaclass=ABCMeta):
    """A part's settings: a frozen dataclass of primitives, whose docstring says what each is.

    They are the arguments of the part's class, behind the sizes that its kind is given: of a mixer
    and a feed-forward layer (d_model), of an embedding (vocab_size, d_model, pad_token), of a head
    (d_model, vocab_size).

    Attributes:
        part: the class. It raises SettingError, a problem for every setting that is out of range.
        free: names of settings that may differ when a checkpoint is loaded or a run goes on,
            because the weights do not depend on them.
    """

    part: ClassVar[type[nn.Module]]
    free: ClassVar[tuple[str, ...]] = ()

    def build(self, *sizes: int) -> nn.Module:
        """The part."""
        return self.part(*sizes, **asdict(self))

    @abstractmethod
    def num_parameters(self, *sizes: Any, **_: Any) -> int:
        """How many parameters the part has, by arithmetic, however many that are."""

    def check_on(self, device: torch.device) -> None:  # noqa: B027  # most run anywhere
        """Raise SettingError if the code that was asked for cannot run on this device."""
