"""The recurrent state carried in incremental inference, and a look at the state of any forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

# What one mixer remembers of every game: a NamedTuple of tensors of its own, game axis first; all
# zeros are a new game.
LayerState: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a model remembers of every game.

    No method of it writes into the tensors: each returns a new state.

    Args:
        layers: what each mixer remembers, first layer first.
    """

    layers: tuple[LayerState, ...]

    @property
    def batch_size(self) -> int:
        """Number of games."""
        return len(self.layers[0][0])

    @property
    def bytes_per_game(self) -> int:
        """Memory that one game's state takes, in bytes."""
        tensors = [tensor for layer in self.layers for tensor in layer]
        return sum(tensor.shape[1:].numel() * tensor.element_size() for tensor in tensors)

    def map(self, function: Callable[[Tensor], Tensor]) -> ModelState:
        """The state with ``function`` applied to every tensor, such as ``torch.clone``."""
        return ModelState(tuple(type(layer)(*map(function, layer)) for layer in self.layers))

    def select(self, games: Tensor) -> ModelState:
        """The states of some games.

        Args:
            games: indices (G,) int64, repeats allowed, or a mask (batch,) bool where True keeps
                the game. A mask waits for the GPU, since it decides the size of the result.
        """
        return self.map(lambda tensor: tensor[games])

    def reset(self, mask: Tensor) -> ModelState:
        """The state in which each game where ``mask`` (batch,) bool is True is a new game.

        Raises:
            ValueError: if ``mask`` has another shape or dtype.
        """
        if mask.shape != (self.batch_size,) or mask.dtype != torch.bool:
            looks = f"{tuple(mask.shape)} {mask.dtype}"
            raise ValueError(f"mask must be ({self.batch_size},) bool, got {looks}.")
        return self.map(lambda tensor: emptied(tensor, mask))


def emptied(tensor: Tensor, mask_B: Tensor) -> Tensor:
    """A tensor (B, …) of a state, zero in the games where ``mask_B`` (B,) bool is True."""
    return tensor.masked_fill(mask_B.view(-1, *(1,) * (tensor.dim() - 1)), 0)


class StateTemplate:
    """What every state of a model looks like, whatever the number of games.

    Args:
        init_state: makes the layers' states, of batch_size, max_moves and device.

    Attributes:
        layers: the state of one new game that has no moves.
    """

    def __init__(self, init_state: Callable[..., tuple[LayerState, ...]]) -> None:
        self.layers = init_state(1, 0, "cpu")
        self._grown = init_state(1, 1, "cpu")

    def fits(self, state: ModelState) -> bool:
        """Whether a state could be one of this model."""
        if list(map(type, state.layers)) != list(map(type, self.layers)):
            return False
        # Of each tensor of each layer: without moves, after one, and as it is.
        layers = zip(self.layers, self._grown, state.layers, strict=True)
        tensors = [each for layer in layers for each in zip(*layer, strict=True)]
        return all(
            a.dim() == found.dim()
            # An axis that grows with the game has any length.
            and all(
                size == one or one != other
                for one, other, size in zip(a.shape[1:], b.shape[1:], found.shape[1:], strict=True)
            )
            for a, b, found in tensors
        )


class Watched(nn.Module):
    """Where what a watcher may see passes once for each entry point of a model; to be hooked.

    Args:
        num_states: how many tensors pass each time.
    """

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states

    def forward(self, states: tuple[tuple[Tensor, ...], ...]) -> None:
        """Nothing happens unless a hook is there.

        Args:
            states: of every layer, what its mixer shows.
        """


class MambaStateCapture:
    """Keeps the last SSM state of every layer whenever the model runs.

    Works with any entry point of the model (forward, prefill, step, step_in_place), with any scan,
    the fused kernels included. Layers whose mixer shows nothing, such as attention, are left out.
    A context manager; leaving it removes the hook.

    Args:
        model: a ``GameModel``, or a module that holds one.

    Attributes:
        enabled: False lets runs pass unseen, so that a caller can sample one of many.

    Raises:
        ValueError: if ``model`` is no ``GameModel``, or none of its mixers shows a state.

    Example:
        >>> import torch
        >>> from tessera.model import MambaModel
        >>> model = MambaModel(vocab_size=84, d_model=8)
        >>> with MambaStateCapture(model) as capture:
        ...     _ = model(torch.zeros(3, 5, dtype=torch.int64))
        >>> [tuple(state.shape) for state in capture.states]
        [(3, 16, 16)]
    """

    def __init__(self, model: nn.Module) -> None:
        places = [module for module in model.modules() if isinstance(module, Watched)]
        if not places:
            raise ValueError(f"model must be or hold a GameModel, got {type(model).__name__}.")
        if not places[0].num_states:
            raise ValueError("none of the model's mixers shows a recurrent state.")
        self.enabled = True
        self._states: list[Tensor] = []
        self._handle = places[0].register_forward_hook(self._keep)

    @property
    def states(self) -> list[Tensor]:
        """Final state of each such layer in the last seen run, (batch, d_inner, d_state) float32.

        PAD leaves a state as it was, so this is the state after each game's last move. Free of the
        graph and not copied: reading it costs nothing and does not wait for the GPU; after
        ``step_in_place`` it is the state itself, which the next step moves on. Empty before the
        first run.
        """
        return list(self._states)

    def remove(self) -> None:
        """Take the hook off the model; ``states`` stays. Doing it twice is harmless."""
        self._handle.remove()

    def _keep(self, place: nn.Module, args: tuple[Any, ...], output: None) -> None:
        if self.enabled:
            self._states = [state.detach().float() for layer in args[0] for state in layer]

    def __enter__(self) -> MambaStateCapture:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
