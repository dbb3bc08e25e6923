"""Training a model that reads the board: whole games, and the convolutions over boards alone.

Shapes: B sequences, L positions, T positions of all games (``B * L``), N rows, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import conv_flop_count

from tessera.commands.bench.engine_speed import Timing
from tessera.data import GameStream, StreamSettings
from tessera.data.chunk_size import games_that_fit
from tessera.go import Rules
from tessera.model import GameModel, ModelSettings
from tessera.model.board_convolution import BoardConvolution, activated, gradients
from tessera.vocabulary import Vocabulary

_LARGE = 13  # rows, from which on fewer games are as many points
_ON_A_GPU = {"small": (1024, 128), "large": (128, 512)}  # sequences, and plies of the longest game
_ON_A_CPU = {"small": (8, 128), "large": (2, 512)}
_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class ConvolutionSpeed:
    """The convolutions of a model over boards, forward and backward, with nothing around them.

    Attributes:
        flops: of their products in one step.
        seconds: that they took.
    """

    flops: int
    seconds: float

    @property
    def flops_per_s(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds


def board_model(board_size: int, is_gpu: bool) -> GameModel:
    """The model of ``board_9x9`` on a GPU, that of the quickstart on a CPU; new weights."""
    torch.manual_seed(0)
    sizes = (
        {"d_model": 256, "board": {"channels": 64, "depth": 1}}
        if is_gpu
        else {"d_model": 64, "board": {"channels": 16, "depth": 2}}
    )
    parts: dict[str, Any] = {"features": "board", "head": "points", **sizes}
    return GameModel(ModelSettings(Vocabulary(board_size).size, **parts))


def board_stream(board_size: int, device: torch.device, ahead: bool = False) -> GameStream:
    """Whole rule-based games with their boards, a batch after another.

    Args:
        board_size: n.
        device: where they are played.
        ahead: play as many at once as there is room for, as training does.
    """
    shapes = _ON_A_GPU if device.type == "cuda" else _ON_A_CPU
    sequences, plies = shapes["small" if board_size < _LARGE else "large"]
    settings = StreamSettings(
        board_size=board_size,
        rules=Rules(max_moves=plies),
        context=None,
        batch_size=sequences,
        games_per_chunk=4 * sequences,
    )
    if ahead:
        settings = replace(settings, games_per_chunk=games_that_fit(settings, device, ("board",)))
    stream = GameStream(settings, device=device, needs=("board",))
    if device.type == "cuda":
        stream.length_step = 32
    return stream


def time_convolutions(
    model: GameModel, positions: int, board_size: int, timing: Timing
) -> ConvolutionSpeed:
    """Every convolution over the boards of so many positions, T, on random numbers."""
    device = timing.device
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    works: list[Callable[[], object]] = []
    flops = 0
    for layer in _convolutions(model):
        channels, channels_in = layer.weight.shape[:2]
        is_first = channels_in != channels
        width = channels_in + (-channels_in % 16 if device.type == "cuda" else 0)
        weight = torch.zeros(channels, width, 3, 3, device=device, dtype=dtype)
        weight[:, :channels_in] = layer.weight.detach().to(weight)
        weight = weight.contiguous(memory_format=torch.channels_last)
        shape = (positions, board_size, board_size)
        boards = torch.rand(*shape, width, device=device).to(dtype).permute(0, 3, 1, 2)
        grads = torch.randn(*shape, channels, device=device).to(dtype).permute(0, 3, 1, 2)
        bias = layer.bias.detach().to(dtype)
        # What a convolution of planes reads has no gradient.
        needs = (not is_first, True, False)
        works.append(partial(activated, boards, weight, bias, not is_first))
        works.append(partial(gradients, grads, boards, weight, needs))
        once = conv_flop_count(
            [positions, channels_in, board_size, board_size],
            list(layer.weight.shape),
            [positions, channels, board_size, board_size],
        )
        flops += once * (2 if is_first else 3)

    def step(_: int) -> int:
        for _ in range(_AT_ONCE):
            for work in works:
                work()
        return _AT_ONCE

    step(0)
    runs = timing.repeat(step)
    seconds = sorted(run.seconds / run.num_done for run in runs)[len(runs) // 2]
    return ConvolutionSpeed(flops, seconds)


def fused_flops() -> dict[Any, Callable[..., int]]:
    """How many operations cuDNN's fused convolutions are, for torch's counter."""

    def count(x_shape: Any, w_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return conv_flop_count(list(x_shape), list(w_shape), list(out_shape))

    ops = torch.ops.aten
    return {ops.cudnn_convolution_relu: count, ops.cudnn_convolution_add_relu: count}


def _convolutions(model: GameModel) -> Iterator[BoardConvolution]:
    return (layer for layer in model.modules() if isinstance(layer, BoardConvolution))
