"""The recurrent state carried in incremental inference, and a look at the state of any forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LayerState:
    """What one mixer remembers of every game.

    Args:
        conv: inputs of the convolution at the last ``d_conv - 1`` moves, oldest first, zeros before
            the first move; (batch, d_conv - 1, channels) float32, with ``d_inner`` channels, of
            Mamba-2 ``d_inner + 2 * d_state``.
        ssm: state of the scan, (batch, d_inner, d_state) float32; of Mamba-2 head by head.
    """

    conv: Tensor
    ssm: Tensor


@dataclass(frozen=True, slots=True)
class MambaState:
    """What a model remembers of every game; its size does not grow with the game.

    No method of it writes into the tensors: each returns a new state.

    Args:
        layers: one ``LayerState`` for every mixer, first layer first.
    """

    layers: tuple[LayerState, ...]

    @property
    def batch_size(self) -> int:
        """Number of games."""
        return len(self.layers[0].ssm)

    @property
    def bytes_per_game(self) -> int:
        """Memory that one game's state takes, in bytes."""
        tensors = [tensor for layer in self.layers for tensor in (layer.conv, layer.ssm)]
        return sum(tensor.shape[1:].numel() * tensor.element_size() for tensor in tensors)

    def map(self, function: Callable[[Tensor], Tensor]) -> MambaState:
        """The state with ``function`` applied to every tensor, such as ``torch.clone``."""
        return MambaState(
            tuple(LayerState(function(layer.conv), function(layer.ssm)) for layer in self.layers)
        )

    def select(self, games: Tensor) -> MambaState:
        """The states of some games.

        Args:
            games: indices (G,) int64, repeats allowed, or a mask (batch,) bool where True keeps
                the game. A mask waits for the GPU, since it decides the size of the result.
        """
        return self.map(lambda tensor: tensor[games])

    def reset(self, mask: Tensor) -> MambaState:
        """The state in which each game where ``mask`` (batch,) bool is True is a new game.

        Raises:
            ValueError: if ``mask`` has another shape or dtype.
        """
        if mask.shape != (self.batch_size,) or mask.dtype != torch.bool:
            looks = f"{tuple(mask.shape)} {mask.dtype}"
            raise ValueError(f"mask must be ({self.batch_size},) bool, got {looks}.")
        return self.map(lambda tensor: tensor.masked_fill(mask[:, None, None], 0.0))


class LastState(nn.Identity):
    """Where a mixer's last SSM state passes, (batch, d_inner, d_state); to be hooked."""


class MambaStateCapture:
    """Keeps the last SSM state of every layer whenever the model runs.

    Works with any entry point of the model (forward, prefill, step), with any scan, the fused
    kernel's included, and with a compiled model. A context manager; leaving it removes the hooks.

    Args:
        model: holds one mixer or more, in the order in which they run.

    Attributes:
        enabled: False lets runs pass unseen, so that a caller can sample one of many.

    Raises:
        ValueError: if ``model`` holds no mixer.

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
        places = [module for module in model.modules() if isinstance(module, LastState)]
        if not places:
            raise ValueError(f"model must hold a Mamba mixer, got {type(model).__name__}.")
        self.enabled = True
        self._layers: dict[nn.Module, int] = {place: layer for layer, place in enumerate(places)}
        self._states: list[Tensor | None] = [None] * len(places)
        self._handles = [place.register_forward_hook(self._keep) for place in places]

    @property
    def states(self) -> list[Tensor]:
        """Final state of each layer in the last seen run, (batch, d_inner, d_state) float32.

        PAD leaves a state as it was, so this is the state after each game's last move. Free of the
        graph and not copied: reading it costs nothing and does not wait for the GPU. Empty before
        the first run.
        """
        return [state for state in self._states if state is not None]

    def remove(self) -> None:
        """Take the hooks off the model; ``states`` stays. Doing it twice is harmless."""
        for handle in self._handles:
            handle.remove()

    def _keep(self, place: nn.Module, args: tuple[Any, ...], state: Tensor) -> None:
        if self.enabled:
            self._states[self._layers[place]] = state.detach().float()

    def __enter__(self) -> MambaStateCapture:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()
