"""Where the vectors to be checked come from: a model's last ones, and contexts that are carried on.

Shape suffixes: B games, L positions, H ``d_model``, C numbers of a context, W of what is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tessera.model import GameModel
from tessera.model.features.base import FeatureTables, ordered
from tessera.model.mixers.context_token import ContextTokenMixer
from tessera.model.state import ModelState


@dataclass(frozen=True)
class Passed:
    """What passed through a model that read some games.

    Attributes:
        hidden_BLH: the last vectors, those that the head reads.
        embedded_BLH: the tokens' own vectors.
        contexts: of each mixer that carries a context, a recurrence that makes it again.
    """

    hidden_BLH: Tensor
    embedded_BLH: Tensor
    contexts: tuple[ContextRecurrence, ...]


def passed_through(model: GameModel, tokens: Tensor, features: FeatureTables = ()) -> Passed:
    """Have a model read games, and keep what passes.

    Args:
        model: in eval mode.
        tokens: (B, L) int64.
        features: tables of the model's features.
    """
    hidden: list[Tensor] = []
    embedded: list[Tensor] = []
    windows: list[tuple[ContextTokenMixer, Tensor]] = []
    is_pad = tokens == model.pad_token
    with contextlib.ExitStack() as stack:

        def listen(handle: torch.utils.hooks.RemovableHandle) -> None:
            stack.callback(handle.remove)

        listen(model.head.register_forward_pre_hook(lambda _, args: hidden.append(args[0])))
        listen(model.embedding.register_forward_hook(lambda *args: embedded.append(args[-1])))
        for mixer in model.blocks.mixers:
            if isinstance(mixer, ContextTokenMixer):
                hook = mixer.token.register_forward_pre_hook
                listen(hook(lambda _, args, own=mixer: windows.append((own, args[0]))))
        model(tokens, None, features)
    contexts = tuple(ContextRecurrence(mixer, inputs, is_pad) for mixer, inputs in windows)
    return Passed(hidden[0], embedded[0], contexts)


class ContextRecurrence:
    """A mixer's context, ``c_i = Block(c_{i−1}, e_i)``, over given games; see ``SweptRecurrence``.

    Args:
        mixer: whose context it is.
        windows_BLW: what it reads at each position.
        is_pad_BL: True at PAD, which stands behind the moves.
    """

    def __init__(self, mixer: ContextTokenMixer, windows_BLW: Tensor, is_pad_BL: Tensor) -> None:
        self.inputs, self.counted_BL = windows_BLW, ~is_pad_BL
        self._mixer, self._is_pad = mixer, is_pad_BL
        self._of_inputs = mixer.context.of_inputs(windows_BLW)

    def sequential(self, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The contexts (B, L, C), one after the other, and the last ones (B, C)."""
        contexts_BLC = self._mixer.contexts(self.inputs, self._is_pad, memory)[-1]
        return contexts_BLC, contexts_BLC[:, -1]

    def sweep(self, previous_BLC: Tensor) -> Tensor:
        """The contexts, each from the previous sweep's one of the position before it."""
        return self._mixer.context.sweep(previous_BLC, self._of_inputs, self._is_pad)[-1]


class GameRecurrence:
    """A whole model over given games: its last vectors, and its state as what is remembered.

    Args:
        model: in eval mode, of a state that does not grow.
        tokens: (B, L) int64; PAD is put behind the moves.
        features: tables of the model's features.
    """

    def __init__(self, model: GameModel, tokens: Tensor, features: FeatureTables = ()) -> None:
        order = torch.argsort(tokens == model.pad_token, dim=1, stable=True)
        self._model, self._tokens = model, tokens.gather(1, order)
        self._features = ordered(features, order)
        self.counted_BL = self._tokens != model.pad_token

    def sequential(self, memory: ModelState | None = None) -> tuple[Tensor, ModelState]:
        """The vectors (B, L, H) that the head reads, and the state after each game."""
        hidden_BLH, _, state = self._model.read_on(self._tokens, memory, self._features)
        return hidden_BLH, state


def has_constant_state(model: GameModel) -> bool:
    """Whether what a model remembers of a game takes the same memory however long it is."""
    sizes = (model.init_state(1, "meta", max_moves).bytes_per_game for max_moves in (0, 1))
    return len(set(sizes)) == 1


@contextlib.contextmanager
def untrained(model: GameModel, seed: int) -> Iterator[GameModel]:
    """A new model like the given one, whose weights nothing has trained; nobody's draws change.

    Args:
        model: what it is to be like, its device and mode included.
        seed: of the new one's weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = GameModel(model.settings, model.pad_token)
    yield new.to(model.device).train(model.training)
