"""A mixer and a model as what they have in common: they read rows, and go on from a state.

Shape suffixes: B games, L positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tessera.model.features.base import Features
from tessera.model.mixers.base import Mixer
from tessera.model.model import GameModel
from tessera.model.state import ModelState

LENGTHS = (12, 7, 1, 0)  # moves of the games that are padded; the last has not begun
NUM_GAMES, LENGTH = len(LENGTHS), max(LENGTHS)
_MORE = 2  # positions of PAD, at least
BEGINNINGS = ((0, 5), (0, 1, 9), (0,), (0, 2, 3, 11))  # plies at which a slot begins a game


class _Reader:
    """What it reads, (B, L, …), and where there is no PAD (B, L)."""

    def __init__(self, inputs: Tensor, others: Tensor, at_pad: Tensor) -> None:
        self.inputs, self.others, self.at_pad = inputs, others, at_pad
        self.nowhere = torch.zeros(NUM_GAMES, LENGTH, dtype=torch.bool, device=inputs.device)


class MixerReader(_Reader):
    """A mixer that reads random vectors."""

    def __init__(self, d_model: int, device: torch.device, mixer: Mixer) -> None:
        self.mixer = mixer
        generator = torch.Generator().manual_seed(1)
        shape = (2, NUM_GAMES, LENGTH, d_model)
        inputs, others = torch.randn(shape, generator=generator).to(device)
        super().__init__(inputs, others, torch.zeros(d_model, device=device))

    def padded(self, inputs: Tensor, is_pad_BL: Tensor) -> Tensor:
        return inputs.masked_fill(is_pad_BL[..., None], 0.0)

    def read(self, inputs: Tensor, is_pad_BL: Tensor | None = None) -> Tensor:
        return self.mixer.mix(inputs, is_pad_BL)[0]

    def advance(
        self, inputs: Tensor, is_pad_BL: Tensor | None = None, state: ModelState | None = None
    ) -> tuple[Tensor, ModelState]:
        before = None if state is None else state.layers[0]
        answer, after = self.mixer.advance(inputs, is_pad_BL, before)
        return answer, ModelState((after,))

    def step_in_place(self, inputs: Tensor, state: ModelState, is_new_B: Tensor) -> Tensor:
        return self.mixer.step_in_place(inputs, state.layers[0], is_new_B)

    def init_state(self, batch_size: int, max_moves: int, device: Any = None) -> ModelState:
        return ModelState((self.mixer.init_state(batch_size, max_moves, device),))

    def seen(self, inputs: Tensor, is_pad_BL: Tensor) -> tuple[Tensor, ...]:
        return self.mixer.mix(inputs, is_pad_BL)[1]

    def watched(self, state: ModelState) -> tuple[Tensor, ...]:
        return self.mixer.watched(state.layers[0])


class ModelReader(_Reader):
    """A model that reads random tokens and, where it has features, random sets of points.

    A position is its token and behind it the rows of the sets, in one whole number each.
    """

    def __init__(self, device: torch.device, model: GameModel) -> None:
        self.model = model
        generator = torch.Generator().manual_seed(1)
        shape = (2, NUM_GAMES, LENGTH)
        # PAD is the last but one.
        tokens = torch.randint(0, model.pad_token, shape, generator=generator)
        rows = tables_like(model.features, shape, generator).flatten(3)
        inputs, others = torch.cat([tokens[..., None], rows], 3).to(device)
        at_pad = model(torch.full((1, 1), model.pad_token, device=device), None, self._new(device))
        super().__init__(inputs, others, at_pad[0, 0].detach())

    def padded(self, inputs: Tensor, is_pad_BL: Tensor) -> Tensor:
        tokens = inputs[..., 0].masked_fill(is_pad_BL, self.model.pad_token)
        return torch.cat([tokens[..., None], inputs[..., 1:]], -1)

    def read(self, inputs: Tensor, is_pad_BL: Tensor | None = None) -> Tensor:
        return self.model(inputs[..., 0], None, self._features(inputs))

    def advance(
        self, inputs: Tensor, is_pad_BL: Tensor | None = None, state: ModelState | None = None
    ) -> tuple[Tensor, ModelState]:
        if inputs.shape[1] > 1 or state is None:
            return self.model.prefill(inputs[..., 0], state, self._features(inputs))
        inputs = inputs[:, 0]
        logits, after = self.model.step(inputs[..., 0], state, self._features(inputs))
        return logits[:, None], after

    def step_in_place(self, inputs: Tensor, state: ModelState, is_new_B: Tensor) -> Tensor:
        features = self._features(inputs)
        return self.model.step_in_place(inputs[..., 0], state, is_new_B, features)

    def init_state(self, batch_size: int, max_moves: int, device: Any = None) -> ModelState:
        return self.model.init_state(batch_size, device, max_moves)

    def seen(self, inputs: Tensor, is_pad_BL: Tensor) -> tuple[Tensor, ...]:
        shown: list[tuple[tuple[Tensor, ...], ...]] = []
        handle = self.model.watched.register_forward_hook(lambda _, args, __: shown.append(args[0]))
        self.read(inputs)
        handle.remove()
        return sum(shown[0], ())

    def watched(self, state: ModelState) -> tuple[Tensor, ...]:
        return sum(self.model.blocks.watched(state.layers[: self.model.settings.n_layers]), ())

    def outlook(self, inputs: Tensor) -> tuple[Tensor, ...]:
        logits, outcome = self.model.outlook(inputs[..., 0], self._features(inputs))
        return logits, *(each for each in outcome if each is not None)

    def _features(self, inputs: Tensor) -> tuple[Tensor, ...]:
        features = self.model.features
        if features is None:
            return ()
        rows = inputs[..., 1:].unflatten(-1, (features.num_sets, features.board_size))
        return features.begun(rows)

    def _new(self, device: torch.device) -> tuple[Tensor, ...]:
        features = self.model.features
        if features is None:
            return ()
        return features.begun(tables_like(features, (1, 1), None).to(device))


def tables_like(
    features: Features | None, shape: tuple[int, ...], generator: torch.Generator | None
) -> Tensor:
    """Random sets of points (…, S, N) of positions of this shape; empty ones without a generator.

    Of no features there are none, (…, 0, 0).
    """
    sets, size = (0, 0) if features is None else (features.num_sets, features.board_size)
    if generator is None:
        return torch.zeros(*shape, sets, size, dtype=torch.int64)
    return torch.randint(0, 1 << size, (*shape, sets, size), generator=generator)


Reader = MixerReader | ModelReader


def padded_rows(reader: Reader) -> tuple[tuple[str, Tensor, Tensor], ...]:
    """The games of ``LENGTHS`` in longer rows, PAD after them and before them."""
    length = LENGTH + _MORE
    moves_B1 = torch.tensor(LENGTHS, device=reader.inputs.device)[:, None]
    place_L = torch.arange(length, device=reader.inputs.device)
    longer = torch.cat([reader.inputs, reader.others[:, :_MORE]], 1)

    def padded(side: str, is_pad_BL: Tensor, shift: Tensor | int) -> tuple[str, Tensor, Tensor]:
        at_BL = (place_L - shift).expand(is_pad_BL.shape) % length
        index = at_BL.view(*at_BL.shape, *(1,) * (longer.dim() - 2)).expand_as(longer)
        return side, reader.padded(longer.gather(1, index), is_pad_BL), is_pad_BL

    after = padded("after", place_L >= moves_B1, 0)
    return after, padded("before", place_L < length - moves_B1, length - moves_B1)


def stepped(
    reader: Reader, state: ModelState, inputs: Tensor, beginnings: tuple[tuple[int, ...], ...]
) -> Tensor:
    """The answers (B, L, …) of single steps in place.

    Args:
        reader: steps.
        state: moved on.
        inputs: (B, L, …).
        beginnings: of each slot, the plies at which it begins a game.
    """
    answers = []
    for ply in range(LENGTH):
        is_new_B = torch.tensor([ply in own for own in beginnings], device=inputs.device)
        answers.append(reader.step_in_place(inputs[:, ply], state, is_new_B).clone())
    return torch.stack(answers, 1)


def all_answers(reader: Reader) -> tuple[Tensor, ...]:
    """Of all ways to read: at once, padded at either side, going on, and step by step."""
    at_once = [reader.read(rows, is_pad_BL) for _, rows, is_pad_BL in padded_rows(reader)]
    first, state = reader.advance(reader.inputs[:, :5])
    second, _ = reader.advance(reader.inputs[:, 5:], None, state)
    with torch.no_grad():
        state = reader.init_state(NUM_GAMES, LENGTH)
        steps = stepped(reader, state, reader.inputs, BEGINNINGS)
    return (*at_once, first, second, steps)
