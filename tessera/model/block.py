"""Blocks: norm, mixer, residual; norm, feed-forward, residual. The only place where they meet.

Shape suffixes: B games, L positions, H ``d_model``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tessera.model.feed_forward import FeedForward
from tessera.model.mixers.base import Mixer, Penalties, Penalty
from tessera.model.norm import NORMS
from tessera.model.state import LayerState

_Rest = TypeVar("_Rest")

Seen = tuple[tuple[Tensor, ...], ...]  # of every layer, what a watcher may see


class Blocks(nn.Module):
    """The layers of a model: pre-norm residual blocks and a final norm, or one bare mixer.

    Args:
        d_model: width of a position's vector.
        mixers: one for every layer.
        feed_forwards: one for every layer, or none at all.
        checkpoint_activations: whether training keeps a block's input only and computes the rest
            again in the backward pass.
        norm: ``rms`` or ``layer``.
        shares_norm: whether a block's mixer and its feed-forward layer have one norm together.

    Attributes:
        is_bare: whether there is nothing but one mixer, without norm and residual.
    """

    def __init__(
        self,
        d_model: int,
        mixers: Sequence[Mixer],
        feed_forwards: Sequence[FeedForward] = (),
        checkpoint_activations: bool = False,
        norm: str = "rms",
        shares_norm: bool = False,
    ) -> None:
        super().__init__()
        new_norm, _ = NORMS[norm]
        self.is_bare = len(mixers) == 1 and not feed_forwards
        self.checkpoint_activations = checkpoint_activations and not self.is_bare
        # Side by side, not block by block: the order of parameters is that of all checkpoints.
        self.mixers = nn.ModuleList(mixers)
        if self.is_bare:
            return
        self.norms = nn.ModuleList(new_norm(d_model) for _ in mixers)
        self.feed_forwards = nn.ModuleList(feed_forwards)
        own_norms = () if shares_norm else feed_forwards
        self.feed_forward_norms = nn.ModuleList(new_norm(d_model) for _ in own_norms)
        self.final_norm = new_norm(d_model)

    def forward(self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None) -> Tensor:
        """The vectors alone, see ``mix``."""
        return self.mix(hidden_BLH, is_pad_BL)[0]

    def mix(
        self, hidden_BLH: Tensor, is_pad_BL: Tensor | None = None
    ) -> tuple[Tensor, Seen, Penalties]:
        """The vectors (B, L, H) after all layers, see ``Mixer.mix_penalized``."""
        seen: Seen = ()
        penalties: Penalties = ()  # of one layer after the other
        added_BLH: Tensor | None = None
        saves_memory = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        for index in range(len(self.mixers)):
            if saves_memory:
                # A block draws no random numbers, so no generator's state has to be kept.
                hidden_BLH, (own, more) = checkpoint(
                    self._mix_whole_block,
                    *(index, hidden_BLH, is_pad_BL),
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                mix = self.mixer(index).mix_penalized
                hidden_BLH, added_BLH, (own, more) = self._through(
                    index, mix, hidden_BLH, added_BLH, is_pad_BL
                )
            seen, penalties = (*seen, own), penalties + more
        return self._end(hidden_BLH, added_BLH), seen, penalties

    @property
    def penalty_names(self) -> tuple[str, ...]:
        """What ``penalty_rows`` are, last of all what they cost together; none without any."""
        names = dict.fromkeys(penalty.name for penalty in self._penalties())
        return (*names, "penalty") if names else ()

    def penalty_rows(self, penalties: Penalties) -> list[Tensor]:
        """For each name the mean over the layers that have it, and in nats what all cost; (T,).

        Args:
            penalties: as ``mix`` returns them.
        """
        pairs = list(zip(self._penalties(), penalties, strict=True))
        rows, costs = [], []
        for name in self.penalty_names[:-1]:
            own = [(weight, each.flatten()) for (key, weight), each in pairs if key == name]
            rows.append(torch.stack([each for _, each in own]).mean(0))
            costs.append(torch.stack([weight * each for weight, each in own]).mean(0))
        return [*rows, torch.stack(costs).sum(0)]

    def _penalties(self) -> tuple[Penalty, ...]:
        return sum((self.mixer(i).penalties for i in range(len(self.mixers))), ())

    def at_step(self, step: int) -> None:
        """Tell all mixers of the step that comes next, see ``Mixer.at_step``."""
        for index in range(len(self.mixers)):
            self.mixer(index).at_step(step, index)

    def advance(
        self,
        hidden_BLH: Tensor,
        is_pad_BL: Tensor | None = None,
        layers: tuple[LayerState, ...] | None = None,
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """The vectors after all layers and the states after them, see ``Mixer.advance``."""
        after: tuple[LayerState, ...] = ()
        added_BLH: Tensor | None = None
        for index in range(len(self.mixers)):
            state = layers[index] if layers else None
            advance = self.mixer(index).advance
            hidden_BLH, added_BLH, own = self._through(
                index, advance, hidden_BLH, added_BLH, is_pad_BL, state
            )
            after += (own,)
        return self._end(hidden_BLH, added_BLH), after

    def step_in_place(
        self, hidden_BH: Tensor, layers: tuple[LayerState, ...], is_new_B: Tensor
    ) -> Tensor:
        """The vectors (B, H) of one more token, see ``Mixer.step_in_place``."""
        added_BH: Tensor | None = None
        for index, state in enumerate(layers):
            step = partial(_step, self.mixer(index))
            hidden_BH, added_BH, _ = self._through(
                index, step, hidden_BH, added_BH, state, is_new_B
            )
        return self._end(hidden_BH, added_BH)

    def init_state(
        self, batch_size: int, max_moves: int = 0, device: torch.device | str | None = None
    ) -> tuple[LayerState, ...]:
        """The states of new games, first layer first, see ``Mixer.init_state``."""
        layers = range(len(self.mixers))
        return tuple(self.mixer(i).init_state(batch_size, max_moves, device) for i in layers)

    def mixer(self, index: int) -> Mixer:
        """The mixer of a layer, from 0."""
        mixer = self.mixers[index]
        assert isinstance(mixer, Mixer)
        return mixer

    def watched(self, layers: tuple[LayerState, ...]) -> Seen:
        """Of every layer, what of its state a watcher may see."""
        return tuple(self.mixer(index).watched(state) for index, state in enumerate(layers))

    def _mix_whole_block(
        self, index: int, hidden_BLH: Tensor, is_pad_BL: Tensor | None
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], Penalties]]:
        """One block of which nothing is left to add: its input is all that has to be kept."""
        mix = self.mixer(index).mix_penalized
        hidden_BLH, added_BLH, own = self._through(index, mix, hidden_BLH, None, is_pad_BL)
        return hidden_BLH if added_BLH is None else hidden_BLH + added_BLH, own

    def _through(
        self,
        index: int,
        mix: Callable[..., tuple[Tensor, _Rest]],
        hidden: Tensor,
        added: Tensor | None,
        *others: Any,
    ) -> tuple[Tensor, Tensor | None, _Rest]:
        """One block. Zero at PAD stays zero: so does its norm, and what a part makes of it.

        What the block adds is left to the next norm, which reads the sum anyway.

        Args:
            hidden: vectors.
            added: what is still to be added to them; None means nothing.

        Returns:
            The same two after the block, and what ``mix`` returned beside vectors.
        """
        if self.is_bare:
            mixed, rest = mix(hidden, *others)
            return mixed, None, rest
        hidden, normed = self.norms[index](hidden, added)
        added, rest = mix(normed, *others)
        if self.feed_forwards:
            norms = self.feed_forward_norms or self.norms
            hidden, normed = norms[index](hidden, added)
            added = self.feed_forwards[index](normed)
        return hidden, added, rest

    def _end(self, hidden: Tensor, added: Tensor | None) -> Tensor:
        if self.is_bare:
            return hidden
        _, normed = self.final_norm(hidden, added)
        return normed


def _step(
    mixer: Mixer, hidden_BH: Tensor, state: LayerState, is_new_B: Tensor
) -> tuple[Tensor, None]:
    return mixer.step_in_place(hidden_BH, state, is_new_B), None
