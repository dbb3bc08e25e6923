"""What every sequence mixer is: a game's positions in, as many out, and a state to go on from.

Shape suffixes: B games, L positions, H ``d_model``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tessera.model.state import LayerState, emptied

Penalties = tuple[Tensor, ...]  # (B, L) float32 each, one of every ``Penalty`` of a mixer


class Penalty(NamedTuple):
    """Something of a mixer that training is to keep small, and that is logged.

    Attributes:
        name: it is logged under; in several layers it is one mean over them.
        weight: nats that one unit of it costs beside the loss of the moves.
    """

    name: str
    weight: float


class Mixer(nn.Module, ABC):
    """Mixes the positions of a game, each with those before it: d_model in, d_model out.

    Vectors at PAD are zero when they come in, and must be zero when they go out. No position may
    depend on a later one; ``tessera.model.testing.check_mixer`` tries this and all the rest.

    Attributes:
        no_weight_decay: names of own parameters that weight decay must leave alone, beside those
            of one axis. They hold for every copy, while a mark on a parameter stays behind.
        penalties: what ``mix_penalized`` says of each position; usually nothing.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ()
    penalties: tuple[Penalty, ...] = ()

    def forward(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Tensor:
        """The mixed vectors alone, see ``mix``."""
        return self.mix(hidden_BLH, is_pad_BL)[0]

    @abstractmethod
    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mixed vectors (B, L, H) of whole games, and what a watcher may see, of any shapes.

        Without a side effect, which a CUDA graph would not repeat.

        Args:
            hidden_BLH: (B, L, H), zero at PAD.
            is_pad_BL: (B, L) bool, True at PAD, which may stand at either end of a row; None means
                there is none.
        """

    def mix_penalized(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], Penalties]]:
        """See ``mix``, and with what a watcher may see the penalties of each position."""
        mixed_BLH, seen = self.mix(hidden_BLH, is_pad_BL)
        return mixed_BLH, (seen, ())

    def at_step(self, step: int, layer: int) -> None:  # most learn alike at all times
        """Hear of the optimizer's step that comes next; whoever is never told is done with it all.

        Args:
            step: from 0.
            layer: of this mixer, from 0.
        """

    @abstractmethod
    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, LayerState]:
        """The mixed vectors (B, L, H), zero at PAD, and the state after them.

        Args:
            hidden_BLH: (B, L, H), zero at PAD.
            is_pad_BL: (B, L) bool, True at PAD, after the moves of its row; None means there is
                none.
            state: before the first position; None means the start of a game.
        """

    @abstractmethod
    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> LayerState:
        """The state of new games, all zeros.

        Args:
            batch_size: B.
            max_moves: tokens that ``step_in_place`` will be given in the longest game; a state
                that does not grow has no use for it.
            device: None is that of the parameters.
        """

    def step_in_place(self, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor) -> Tensor:
        """The mixed vectors (B, H) of one more token in each game; ``state`` is moved on.

        Without gradients.

        Args:
            hidden_BH: (B, H).
            state: changed in place.
            is_new_B: (B,) bool, True where a game begins with this token.
        """
        before = type(state)(*(emptied(tensor, is_new_B) for tensor in state))
        mixed_BLH, after = self.advance(hidden_BH[:, None], None, before)
        for own, new in zip(state, after, strict=True):
            own.copy_(new)
        return mixed_BLH[:, 0]

    def watched(self, state: LayerState) -> tuple[Tensor, ...]:
        """What of a state a watcher may see: as ``mix`` returns it. Nothing, unless there is."""
        return ()


class PenalizedMixer(Mixer):
    """A mixer with penalties: they are said beside the vectors, and ``mix`` leaves them out."""

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See ``Mixer.mix``."""
        mixed_BLH, (seen, _) = self.mix_penalized(hidden_BLH, is_pad_BL)
        return mixed_BLH, seen

    @abstractmethod
    def mix_penalized(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], Penalties]]:
        """See ``Mixer.mix_penalized``."""
