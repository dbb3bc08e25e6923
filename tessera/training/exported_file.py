"""A model alone in one file of safetensors: its weights, and its settings in the file's metadata.

Nothing that a stranger wrote there is run: it is numbers and JSON. The metadata is ``tessera``, a
JSON text of the settings; its first entry is the digest of the rest of it and of every tensor.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from tessera.training.checkpoint_parts import ContentError, named, shown
from tessera.training.precision import SCALE, restored

FORMAT = 1
_LENGTH_BYTES = 8  # of the header's length, little-endian, before the header
_MOST_HEADER = 2**22  # bytes; a thousand layers have two million
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
}
MODEL = "model."  # what the names of the model's weights begin with in a checkpoint


def is_exported(file: BinaryIO) -> bool:
    """Whether a file begins as safetensors do; a checkpoint has a zero at that place."""
    file.seek(0)
    begin = file.read(_LENGTH_BYTES + 1)
    file.seek(0)
    return begin[_LENGTH_BYTES:] == b"{"


def read_exported(file: BinaryIO) -> dict[str, Any]:
    """The content as that of a checkpoint which has a model and its settings, and nothing else.

    Weights that were rounded are as they were rounded, in float32 if they are whole numbers.

    Raises:
        ContentError: if the file is torn, damaged or not of this program.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = _read_header(file)
    header.described()
    file.seek(0)
    try:
        tensors = load(file.read())
    except SafetensorError as error:
        raise ContentError("it is torn, or no model that tessera export wrote") from error
    sha256 = str(header.settings.get("sha256"))
    if _digest(header.text.replace(sha256, "", 1), tensors) != sha256:
        raise ContentError("it is damaged: it is not as it was written")
    return _as_checkpoint(header.settings, restored(tensors))


def described(file: BinaryIO) -> dict[str, Any]:
    """The same by the header alone: of every weight shape and type, and zeros without memory.

    Raises:
        ContentError: if the header cannot be used.
    """
    header = _read_header(file)
    return _as_checkpoint(header.settings, header.described())


def exported_bytes(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The file.

    Args:
        settings: ``model``, ``data`` and ``step``, see ``tessera.training.export``.
        tensors: by the names that the model has for them; see ``precision.rounded``.

    Raises:
        ContentError: if the settings, which may be of a part of the user's own, are no JSON.
    """
    from safetensors.torch import save

    try:
        text = json.dumps({"sha256": "", "format": FORMAT, **settings}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContentError(f"its settings cannot be written as JSON ({shown(error)})") from error
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    text = text.replace('""', f'"{_digest(text, whole)}"', 1)
    # One entry, because safetensors writes several in any order: the same model is the same bytes.
    return bytes(save(whole, {"tessera": text}))


class _Header:
    """What stands before the tensors.

    Attributes:
        text: the settings as they stand there.
        settings: the same, read.
        tensors: type and shape by name.
    """

    def __init__(self, header: Any, data_bytes: int) -> None:
        marks = header.pop("__metadata__", None) if isinstance(header, dict) else None
        if not isinstance(marks, dict) or not isinstance(marks.get("tessera"), str):
            raise ContentError("it has no settings of Tessera: tessera export did not write it")
        self.text, self.settings = marks["tessera"], _settings(marks["tessera"])
        self.tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        places = []
        for name, entry in header.items():
            dtype, shape, place = _entry(name, entry)
            self.tensors[name] = dtype, shape
            places.append(place)
        end = 0
        for begin, end_of_this in sorted(places):
            if begin != end:
                raise ContentError("its tensors do not lie one behind the other")
            end = end_of_this
        if end != data_bytes:
            raise ContentError(f"it is torn: it has {data_bytes:,} bytes of tensors for {end:,}")

    def described(self) -> dict[str, Tensor]:
        """The weights that the tensors are restored to, all of them zero; they take no memory.

        Raises:
            ContentError: if whole numbers and their scales do not fit each other.
        """
        zeros = {name: torch.zeros((), dtype=t).expand(s) for name, (t, s) in self.tensors.items()}
        for name in [name for name, zero in zeros.items() if zero.dtype is torch.int8]:
            scale, shape = zeros.pop(name + SCALE, None), zeros[name].shape
            if scale is None or scale.dtype is not torch.float32 or scale.shape != shape[:1]:
                raise ContentError(f"{named(name)} must have a float32 scale for each row")
            if len(shape) < 2:
                raise ContentError(f"{named(name)} must have rows, got the shape {tuple(shape)}")
            zeros[name] = torch.zeros(()).expand(shape)
        return zeros


def _read_header(file: BinaryIO) -> _Header:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 2 <= length <= size - _LENGTH_BYTES:
        raise ContentError("it is torn, or no model that tessera export wrote")
    if length > _MOST_HEADER:
        raise ContentError(f"its header must be at most {_MOST_HEADER:,} bytes, got {length:,}")
    try:
        header = _parsed(file.read(length).decode())
    except (ValueError, RecursionError) as error:
        raise ContentError("its header is damaged, or no JSON") from error
    return _Header(header, size - _LENGTH_BYTES - length)


def _parsed(text: str) -> Any:
    """JSON, without names that are there twice and numbers that are none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is there twice")
        return found

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise ContentError("its settings are damaged, or no JSON") from error
    if not isinstance(settings, dict):
        raise ContentError(f"its settings must have names, got {shown(settings)}")
    version = settings.get("format")
    if type(version) is not int or version != FORMAT:
        by = shown(settings.get("version"))
        told = f"must be {FORMAT}, the one that this version reads, got {shown(version)}"
        raise ContentError(f"its format {told}; version {by} wrote it")
    return settings


def _entry(name: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], tuple[int, int]]:
    """Type, shape and place of a tensor."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ContentError(f"{named(name)} must have a dtype, a shape and data_offsets")
    shape, place = entry["shape"], entry["data_offsets"]
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        allowed = ", ".join(_DTYPES)
        raise ContentError(f"{named(name)} must be of {allowed}, got {shown(entry['dtype'])}")
    for what in (shape, place):
        if not isinstance(what, list) or not all(type(x) is int and 0 <= x < 2**63 for x in what):
            raise ContentError(f"{named(name)} must have whole numbers, got {shown(what)}")
    if len(place) != 2 or place[1] - place[0] != math.prod(shape) * dtype.itemsize:
        raise ContentError(f"{named(name)} has other bytes than its shape, got {shown(place)}")
    return dtype, tuple(shape), (place[0], place[1])


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the settings and of each tensor's name, type, shape and bytes, by name."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _as_checkpoint(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    checkpoint = {
        "pytorch-lightning_version": importlib.metadata.version("lightning"),
        "hyper_parameters": settings.get("model"),
        "datamodule_hyper_parameters": settings.get("data"),
        "state_dict": {MODEL + name: weight for name, weight in weights.items()},
        "exported": settings,
    }
    step = settings.get("step")
    return checkpoint if step is None else checkpoint | {"global_step": step}
