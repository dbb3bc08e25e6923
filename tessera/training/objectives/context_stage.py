"""Stage 1 of ``fixed_point``: sweeps over games, after each of which the context block learns.

Shape suffixes: B games, L positions, T positions of all games, C numbers of a context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tessera.data import GameBatch, GameStream
from tessera.model import GameModel
from tessera.model.context_blocks import ContextBlock
from tessera.model.mixers.context_token import ContextTokenMixer
from tessera.training.objectives.diversity import DIVERSITIES

if TYPE_CHECKING:
    from tessera.training.objectives.fixed_point import FixedPointSettings

FIRST_STD = 0.01  # of the contexts that a set of games begins with
FIGURES = ("context_loss", "cvfp", "diversity")


class ContextStage:
    """Games as streams: a batch of them is swept again and again, then the next one.

    A sweep reads for each position the context that the sweep before found for the one before it,
    and for a game's first position zero: no context goes from one game to another.

    Args:
        settings: of the objective.

    Attributes:
        previous: the contexts (B, L, C) of the newest sweep; None between two sets of games.
        found: of the newest sweep what ``FIGURES`` names.
    """

    def __init__(self, settings: FixedPointSettings) -> None:
        self.settings = settings
        self.previous: Tensor | None = None
        self.found: Tensor | None = None
        # The number of the games that are swept, they, and what is read at their positions.
        self._swept: tuple[int, GameBatch] | None = None
        self._windows: Tensor | None = None
        self._number = 0  # of the newest sweep

    def next_batch(self, model: GameModel, games: GameStream, number: int) -> GameBatch:
        """The games that are swept next.

        Args:
            model: in training.
            games: of which batch k is swept by the sweeps of the numbers from k·sweeps on.
            number: of the sweep, from 0.
        """
        of_games, sweep = divmod(number, self.settings.sweeps)
        mixer = context_mixer(model)
        if self._swept is None or self._swept[0] != of_games:
            self._swept, self._windows = (of_games, games.batch(of_games)), None
            if sweep == 0:
                self.previous = None
        batch = self._swept[1]
        place, shape = batch.inputs.device, (*batch.inputs.shape, mixer.context.d_context)
        if self.previous is None or self.previous.shape != shape:
            self.previous = FIRST_STD * self._drawn(shape, place, 2 * of_games)
        self.previous = self.previous.to(place)  # from a checkpoint
        self._number = number
        return batch

    def loss(self, model: GameModel, batch: GameBatch) -> Tensor:
        """The loss of a sweep, see ``sweep_losses``."""
        assert self.previous is not None
        if self._windows is None:  # of these games: here, so that autocast has its part in it
            with torch.no_grad():
                self._windows = context_mixer(model).windows(model.token_vectors(batch.inputs))
        noise = self._drawn(self.previous.shape, self.previous.device, 2 * self._number + 1)
        losses, self.previous = sweep_losses(
            *(context_mixer(model).context, self._windows, self.previous),
            *(batch.inputs == model.pad_token, noise, self.settings),
        )
        self.found = losses.detach()
        return losses[0]

    def _drawn(self, shape: tuple[int, ...], device: torch.device, number: int) -> Tensor:
        """Normal numbers, the same ones however often they are asked for."""
        generator = torch.Generator(device).manual_seed(self.settings.seed * 2**32 + number)
        return torch.randn(shape, generator=generator, device=device)


def sweep_losses(
    block: ContextBlock,
    windows_BLW: Tensor,
    previous_BLC: Tensor,
    is_pad_BL: Tensor,
    noise_BLC: Tensor,
    settings: FixedPointSettings,
) -> tuple[Tensor, Tensor]:
    """``(1 − w) CVFP + w diversity``, CVFP and diversity (3,), and the contexts found (B, L, C).

    CVFP is ``mean‖c_k − c_{k−1}‖²`` over positions and numbers; nothing is normalized. The contexts
    of the sweep before are no part of the gradient.

    Args:
        block: that sweeps.
        windows_BLW: what is read at each position.
        previous_BLC: c_{k−1}.
        is_pad_BL: True where no position is.
        noise_BLC: normal numbers, scaled here and added to what the sweep reads.
        settings: of the objective.
    """
    read_BLC = previous_BLC + settings.noise * noise_BLC
    swept_BLC = block.sweep(read_BLC, block.of_inputs(windows_BLW), is_pad_BL)[-1].float()
    counted_T = (~is_pad_BL).flatten().float()
    moved_T = (swept_BLC - previous_BLC).square().mean(-1).flatten()
    cvfp = (moved_T * counted_T).sum() / counted_T.sum()
    diversity = DIVERSITIES[settings.diversity].of(swept_BLC.flatten(0, 1), counted_T)
    weight = settings.diversity_weight
    loss = (1 - weight) * cvfp + weight * diversity
    return torch.stack([loss, cvfp, diversity]), swept_BLC.detach()


def context_mixer(model: GameModel) -> ContextTokenMixer:
    """The one mixer of a model that was looked at."""
    mixer = model.blocks.mixer(0)
    assert isinstance(mixer, ContextTokenMixer)
    return mixer
