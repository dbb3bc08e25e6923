"""Whether parts of a checkpoint, which may be anything, are what a model needs."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TOO_MANY = 2**63  # of anything that is counted: no tensor holds it

# Another precision than the run's is rounded when it is loaded.
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class ContentError(ValueError):
    """A part of a checkpoint that cannot be used; the message names it, without a full stop."""


def check_tensor(name: str, value: Any, shape: torch.Size) -> None:
    """Raise ContentError unless a value is a dense floating-point tensor, all of it finite."""
    check_dense(name, value)
    if value.shape != shape:
        raise ContentError(f"{name} must have the shape {tuple(shape)}, got {tuple(value.shape)}")
    if not value.isfinite().all():
        raise ContentError(f"{name} is not finite")


def check_dense(name: str, value: Any) -> None:
    """Raise ContentError unless a value is a floating-point tensor with all its numbers here."""
    if not _is_dense(value) or value.dtype not in _FLOATS:
        raise ContentError(f"{name} must be a floating-point tensor, got {shown(value)}")


def check_like(name: str, value: Any, expected: Tensor) -> None:
    """Raise ContentError unless a value is a dense tensor of the expected shape and dtype."""
    if not _is_dense(value):
        raise ContentError(f"{name} must be a tensor, got {shown(value)}")
    for what, own, wanted in (
        ("shape", tuple(value.shape), tuple(expected.shape)),
        ("dtype", value.dtype, expected.dtype),
    ):
        if own != wanted:
            raise ContentError(f"{name} must have the {what} {wanted}, got {own}")


def check_weights(name: str, weights: Any, expected: Mapping[str, Tensor]) -> None:
    """Raise ContentError unless a value is the ``state_dict`` of a model like the expected one."""
    if not isinstance(weights, dict):
        raise ContentError(f"{name} must hold weights by name, got {shown(weights)}")
    if missing := [key for key in expected if key not in weights]:
        raise ContentError(f"{name} lacks {_first(missing)}")
    if surplus := [key for key in weights if key not in expected]:
        raise ContentError(f"{name} has {_first(surplus)}, which the model has not")
    for key, tensor in expected.items():
        check_tensor(f"{name} {key}", weights[key], tensor.shape)


def check_counts(name: str, value: Any, expected: Any) -> None:
    """Raise ContentError unless a value holds the counts that the expected one holds.

    Args:
        name: what to call it.
        value: a whole number, a bool, or a dict of such values.
        expected: the same; of a number it is the least that is allowed, and 2^63 is too many.
    """
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            raise ContentError(f"{name} must hold counts by name, got {shown(value)}")
        for key, part in expected.items():
            if key not in value:
                raise ContentError(f"{name} lacks {key}")
            check_counts(f"{name} {key}", value[key], part)
    elif isinstance(expected, bool):
        if type(value) is not bool:
            raise ContentError(f"{name} must be true or false, got {shown(value)}")
    elif type(value) is not int or value < expected:
        raise ContentError(
            f"{name} must be a whole number of at least {expected}, got {shown(value)}"
        )
    elif value >= TOO_MANY:
        raise ContentError(f"{name} must be less than 2^63, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a few words, on one line."""
    return " ".join(reprlib.repr(value).split())


def named(key: Any) -> str:
    """A key, which may be anything, as the beginning of a line."""
    return " ".join(str(key)[:100].split())


def _is_dense(value: Any) -> bool:
    """Whether a value is a tensor with all its numbers here."""
    is_whole = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_nested
    return is_whole and value.device.type == "cpu"


def _first(names: list[Any]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{named(names[0])}{more}"
