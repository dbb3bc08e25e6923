"""Stage 1 of ``fixed_point``: sweeps over games, after each of which the context block learns.

Shape suffixes: B games, L positions, T positions of all games, C numbers of a context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tessera.data import GameBatch, GameStream
from tessera.model import GameModel
from tessera.model.mixers.context_token import ContextTokenMixer
from tessera.training.objectives.diversity import DIVERSITIES

if TYPE_CHECKING:
    from tessera.training.objectives.fixed_point import FixedPointSettings

_FIRST_STD = 0.01  # of the contexts that a set of games begins with
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
        self._swept: tuple[int, GameBatch, Tensor] | None = None
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
            batch = games.batch(of_games)
            with torch.no_grad():
                windows = mixer.windows(model.embedding(batch.inputs))
            self._swept = of_games, batch, windows
            if sweep == 0:
                self.previous = None
        batch = self._swept[1]
        place, shape = batch.inputs.device, (*batch.inputs.shape, mixer.context.d_context)
        if self.previous is None or self.previous.shape != shape:
            self.previous = _FIRST_STD * self._drawn(shape, place, 2 * of_games)
        self.previous = self.previous.to(place)  # from a checkpoint
        self._number = number
        return batch

    def loss(self, model: GameModel, batch: GameBatch) -> Tensor:
        """``(1 − w) CVFP + w diversity`` of a sweep, with CVFP = mean‖c_k − c_{k−1}‖².

        The mean is over positions and numbers, and nothing is normalized. The contexts of the sweep
        before are no part of the gradient.
        """
        assert self._swept is not None and self.previous is not None
        settings, previous, windows = self.settings, self.previous, self._swept[2]
        block = context_mixer(model).context
        noise = self._drawn(previous.shape, previous.device, 2 * self._number + 1)
        is_pad = batch.inputs == model.pad_token
        swept = block.sweep(previous + settings.noise * noise, block.of_inputs(windows), is_pad)
        contexts_TC, counted_T = swept[-1].flatten(0, 1).float(), (~is_pad).flatten().float()
        moved_T = (contexts_TC - previous.flatten(0, 1)).square().mean(-1)
        cvfp = (moved_T * counted_T).sum() / counted_T.sum()
        diversity = DIVERSITIES[settings.diversity].of(contexts_TC, counted_T)
        weight = settings.diversity_weight
        loss = (1 - weight) * cvfp + weight * diversity
        self.previous = contexts_TC.detach().view(previous.shape)
        self.found = torch.stack([loss, cvfp, diversity]).detach()
        return loss

    def _drawn(self, shape: tuple[int, ...], device: torch.device, number: int) -> Tensor:
        """Normal numbers, the same ones however often they are asked for."""
        generator = torch.Generator(device).manual_seed(self.settings.seed * 2**32 + number)
        return torch.randn(shape, generator=generator, device=device)


def context_mixer(model: GameModel) -> ContextTokenMixer:
    """The one mixer of a model that was looked at."""
    mixer = model.blocks.mixer(0)
    assert isinstance(mixer, ContextTokenMixer)
    return mixer
