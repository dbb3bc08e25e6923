"""One run of a model as ``tessera bench memory`` counts it and as it measures it.

Training is forward, cross-entropy, backward and AdamW on random tokens; inference is the logits.

Shape suffixes: B sequences, L positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from tessera.model import GameModel, ModelSettings
from tessera.training.optimizer import GraphedAdamW

# As Lightning's trainer.precision has them: of the weights, and of the products.
PRECISIONS = ("bf16-mixed", "bf16-true", "32-true")
_HALF = "bf16-true"


def new_model(settings: ModelSettings, is_trained: bool, precision: str) -> GameModel:
    """A model on the default device, as a trainer of this precision has it.

    Args:
        settings: what it is made of.
        is_trained: False for inference, whose weights have two bytes whatever the precision is.
        precision: one of ``PRECISIONS``.
    """
    dtype = torch.bfloat16 if precision == _HALF or not is_trained else torch.float32
    with _default_dtype(dtype):
        model = GameModel(settings)
    return model.train(is_trained)


def tokens_of(model: GameModel, batch_size: int, length: int) -> Tensor:
    """Random tokens (B, L) int64 on the default device, none of them PAD."""
    drawn = torch.randint(model.vocab_size - 1, (batch_size, length))
    return drawn + (drawn >= model.pad_token)


def inference(model: GameModel, tokens_BL: Tensor) -> Tensor:
    """Logits (B, L, V), without gradients."""
    with torch.no_grad():
        return model.head(_read(model, tokens_BL))


def losses_of_step(model: GameModel, tokens_BL: Tensor, precision: str) -> Tensor:
    """The cross-entropy (B · L,) of a training step; every target is the token before it."""
    with _products(tokens_BL.device.type, precision):
        hidden_BLH = _read(model, tokens_BL)
        targets_T = tokens_BL.roll(1, 1).flatten()
        return model.head.losses(hidden_BLH.flatten(0, 1), targets_T, model.pad_token)


def new_optimizer(model: GameModel) -> GraphedAdamW:
    """That of ``tessera fit``, its update not captured."""
    return GraphedAdamW([{"params": list(model.parameters())}], 1e-3, is_captured=False)


def training_step(
    model: GameModel, optimizer: GraphedAdamW, tokens_BL: Tensor, precision: str
) -> Callable[[], None]:
    """A whole step, again and again."""

    def step() -> None:
        losses_of_step(model, tokens_BL, precision).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _read(model: GameModel, tokens_BL: Tensor) -> Tensor:
    # Not the model's own call, which looks at the tokens: those that are counted hold nothing.
    return model.blocks(model.embedding(tokens_BL, None), tokens_BL == model.pad_token)


def _products(device_type: str, precision: str) -> AbstractContextManager[object]:
    if precision != "bf16-mixed":
        return nullcontext()
    return torch.autocast(device_type, torch.bfloat16)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
