"""What of a checkpoint ``tessera export`` keeps: what playing and measuring need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from tessera.model import ModelSettings
from tessera.model.parts import PartSettings
from tessera.training.checkpoint_content import on_any_machine
from tessera.training.checkpoint_parts import ContentError
from tessera.training.exported_file import MODEL, exported_bytes
from tessera.training.precision import SCALE, kind_of, restored, rounded

# Of the machine, or of training alone.
_NOT_OF_DATA = ("backend", "selfplay_share", "selfplay_temperature")
_NOT_OF_THE_MODEL = ("checkpoint_activations",)
_AS_TRAINED = "as trained"
_SCALE_BYTES = 4  # of each output channel in int8
KINDS = ("matrices", "convolutions", "embedding", "others")


@dataclass(frozen=True, slots=True)
class WeightError:
    """How far the weights of a kind are off.

    Attributes:
        kind: see ``kind_of``; "others" are kept as they are.
        weights: how many.
        bytes_before: of the model's file, scales included.
        bytes_after: of the file's, scales included.
        largest: the largest error of a weight, over the largest weight of its output channel.
        mean: the mean of the same over all of them.
    """

    kind: str
    weights: int
    bytes_before: int
    bytes_after: int
    largest: float
    mean: float


def exported(checkpoint: Mapping[str, Any], precision: str | None, version: str) -> bytes:
    """The exported file of a checkpoint.

    Args:
        checkpoint: checked, see ``read_checked``.
        precision: see ``rounded``.
        version: of the program.

    Raises:
        ContentError: if a part of the user's own has settings that are no JSON, or a weight is too
            large for the precision.
    """
    settings = {"version": version, "step": checkpoint.get("global_step")}
    settings["precision"] = written_precision(checkpoint, precision)
    settings |= {"model": _of_model(checkpoint), "data": _of_data(checkpoint)}
    weights = weights_of(checkpoint)
    tensors = rounded(weights, precision)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ContentError(f"{name} has a weight that is too large for {precision}")
    return exported_bytes(settings, tensors)


def precision_of(checkpoint: Mapping[str, Any]) -> str:
    """What the file of a model says of its weights: ``as trained``, or what it holds them in."""
    return str(checkpoint.get("exported", {}).get("precision", _AS_TRAINED))


def written_precision(checkpoint: Mapping[str, Any], precision: str | None) -> str:
    """What of that is true of the exported file; whole numbers are read as float32."""
    if precision is not None:
        return precision
    before = precision_of(checkpoint)
    return "float32" if before == "int8" else before


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by the names that the model has for them."""
    weights = checkpoint["state_dict"].items()
    return {name[len(MODEL) :]: tensor for name, tensor in weights if name.startswith(MODEL)}


def weight_errors(
    weights: Mapping[str, Tensor], precision: str | None, before: str = _AS_TRAINED
) -> list[WeightError]:
    """How far each kind of weight is off in a precision, the others last.

    Args:
        weights: see ``weights_of``.
        precision: see ``rounded``.
        before: what the file had them in, see ``precision_of``.
    """
    tensors = rounded(weights, precision)
    after = restored(tensors)
    of_kind: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in KINDS}
    for name, weight in weights.items():
        kind = kind_of(name, weight) or "others"
        size = tensors[name].nbytes
        if tensors[name].dtype is torch.int8:
            size += tensors[name + SCALE].nbytes
        is_int8 = before == "int8" and kind_of(name, weight) is not None
        held = weight.numel() + _SCALE_BYTES * len(weight) if is_int8 else weight.nbytes
        found = (weight.numel(), held, size, *_off(weight, after[name]))
        of_kind[kind].append(found)
    return [_together(kind, found) for kind, found in of_kind.items() if found]


def _off(before: Tensor, after: Tensor) -> tuple[float, float]:
    """The errors of all weights over the largest of their row: the largest, and the sum."""
    rows = before.double().reshape(len(before) if before.dim() > 1 else 1, -1)
    largest = rows.abs().amax(1, keepdim=True)
    shares = (after.double().reshape_as(rows) - rows).abs() / largest.where(largest > 0, 1)
    return shares.max().item(), shares.sum().item()


def _together(kind: str, found: list[tuple[float, ...]]) -> WeightError:
    weights, before, after, largest, sums = zip(*found, strict=True)
    counts = (int(sum(weights)), int(sum(before)), int(sum(after)))
    return WeightError(kind, *counts, max(largest), sum(sums) / sum(weights))


def _of_model(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of the model and of the parts that it has; which code runs is the machine's."""
    model = ModelSettings.of(on_any_machine(checkpoint["hyper_parameters"]))
    plain = {
        field.name: getattr(model, field.name)
        for field in fields(model)
        if not isinstance(field.default, PartSettings) and field.name not in _NOT_OF_THE_MODEL
    }
    return plain | {name: asdict(part) for name, part in model.parts().items()}


def _of_data(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    games = checkpoint.get("datamodule_hyper_parameters", {})
    return {name: value for name, value in games.items() if name not in _NOT_OF_DATA}
