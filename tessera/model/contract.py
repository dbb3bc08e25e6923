"""What a model may be handed: shapes, dtypes and devices everywhere, values where nothing waits."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tessera.accelerator import memory_problem
from tessera.model.state import ModelState, StateTemplate
from tessera.setting_errors import SettingError, described, number, problems_of
from tessera.vocabulary import board_size_of

size = number("a whole number of at least 1", lambda x: isinstance(x, int) and x >= 1)


def check_sizes(**sizes: Any) -> None:
    """Raise SettingError with a problem for every size but whole numbers of at least 1."""
    if problems := problems_of(SimpleNamespace(**sizes), dict.fromkeys(sizes, size)):
        raise SettingError(*problems)


def check_tokens(tokens: Any, axes: tuple[str, ...], vocab_size: int, device: torch.device) -> None:
    """Raise ValueError unless ``tokens`` are whole numbers with these axes, none of them empty.

    On a CPU also if one is outside the vocabulary. On a GPU that would wait for it: there torch's
    own assertion ends the process.
    """
    dtypes = (torch.int64, torch.int32)
    is_fine = isinstance(tokens, Tensor) and tokens.dtype in dtypes and tokens.numel() > 0
    if not is_fine or tokens.dim() != len(axes):
        raise ValueError(
            f"tokens must be ({', '.join(axes)}) int64 and not empty, got {described(tokens)}."
        )
    _check_place("tokens", tokens, device)
    _check_values("tokens", tokens, vocab_size)


def check_targets(targets: Any, tokens: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless ``targets`` are int64 of the shape of ``tokens``; as check_tokens.

    On a GPU with Triton a target outside the vocabulary has the loss NaN, and so its gradient.
    """
    is_tensor = isinstance(targets, Tensor)
    if not is_tensor or targets.shape != tokens.shape or targets.dtype != torch.int64:
        raise ValueError(
            f"targets must be {tuple(tokens.shape)} int64, like tokens, got {described(targets)}."
        )
    _check_place("targets", targets, tokens.device)
    _check_values("targets", targets, vocab_size)


def check_features(
    name: str, tables: Any, shapes: Sequence[tuple[int, ...]], tokens: Tensor
) -> None:
    """Raise ValueError unless ``tables`` are whole numbers of these shapes, where the tokens are.

    Args:
        name: of the features.
        tables: anything.
        shapes: of each of the tables.
        tokens: checked before.
    """
    tables = tables if isinstance(tables, tuple) else (tables,)
    looks = [tuple(table.shape) if isinstance(table, Tensor) else None for table in tables]
    if looks != list(shapes):
        wanted = " and ".join(map(str, shapes))
        got = " and ".join(map(described, tables)) or "none"
        raise ValueError(f"features must be {name} of {wanted}, got {got}.")
    for table in tables:
        if table.is_floating_point() or table.is_complex():
            raise ValueError(f"features must be whole numbers, got {table.dtype}.")
        _check_place("features", table, tokens.device)


def check_scores(scores: Any, tokens: Tensor) -> None:
    """Raise ValueError unless ``scores`` are float32 of the shape of ``tokens``, where they are."""
    is_tensor = isinstance(scores, Tensor)
    if not is_tensor or scores.shape != tokens.shape or scores.dtype != torch.float32:
        looks = described(scores)
        raise ValueError(f"scores must be {tuple(tokens.shape)} float32, got {looks}.")
    _check_place("scores", scores, tokens.device)


def check_excluded(excluded: Any, tokens: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless ``excluded`` are int32 row bitboards of the board of each token."""
    shape = (*tokens.shape, board_size_of(vocab_size))
    is_tensor = isinstance(excluded, Tensor)
    if not is_tensor or excluded.shape != shape or excluded.dtype != torch.int32:
        raise ValueError(f"excluded must be {shape} int32, got {described(excluded)}.")
    _check_place("excluded", excluded, tokens.device)


def check_state(state: Any, tokens: Tensor, template: StateTemplate) -> None:
    """Raise ValueError unless ``state`` is one of this model, of as many games as ``tokens``.

    Args:
        state: anything.
        tokens: (B, …).
        template: of the model's states.
    """
    if not isinstance(state, ModelState):
        raise ValueError(f"state must be a ModelState, got {described(state)}.")
    if not template.fits(state):
        raise ValueError("state must be of a model with the same mixer, sizes and n_layers.")
    if state.batch_size != len(tokens):
        raise ValueError(
            f"state must hold the games of tokens, {len(tokens)}, got {state.batch_size}."
        )
    _check_place("state", state.layers[0][0], tokens.device)


def check_batch_size(batch_size: Any, bytes_per_game: int, device: torch.device | str) -> None:
    """Raise SettingError or MemoryError unless the state of so many games can be made there."""
    check_sizes(batch_size=batch_size)
    if problem := memory_problem(batch_size * bytes_per_game, torch.device(device)):
        raise MemoryError(f"out of memory: batch_size (={batch_size}) games need {problem}.")


def check_mask(name: str, mask: Any, batch_size: int, device: torch.device) -> None:
    """Raise ValueError unless ``mask`` is (B,) bool on the device."""
    if not isinstance(mask, Tensor) or mask.shape != (batch_size,) or mask.dtype != torch.bool:
        raise ValueError(f"{name} must be ({batch_size},) bool, got {described(mask)}.")
    _check_place(name, mask, device)


def _check_place(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device}, got {tensor.device}.")


def _check_values(name: str, tokens: Tensor, vocab_size: int) -> None:
    if tokens.device.type != "cpu" or torch.compiler.is_compiling():
        return
    values = tokens.numpy()  # the same memory: nothing is copied
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{name} must be 0 to {vocab_size - 1}, got {wrong}.")
