"""Exported files of a stranger: other settings, headers and weights, and the right digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load, save


def parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, tensors: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + tensors


def resealed(header: dict[str, Any], tensors: bytes) -> bytes:
    """A file of a stranger's, whose digest is right."""
    text = re.sub('"sha256": ".*?"', '"sha256": ""', header["__metadata__"]["tessera"])
    digest = hashlib.sha256(text.encode())
    for name in sorted(header.keys() - {"__metadata__"}):
        entry = header[name]
        types = {"F32": "torch.float32", "I8": "torch.int8", "F16": "torch.float16"}
        digest.update(json.dumps([name, types[entry["dtype"]], entry["shape"]]).encode())
        digest.update(tensors[slice(*entry["data_offsets"])])
    sealed = text.replace('"sha256": ""', f'"sha256": "{digest.hexdigest()}"')
    header["__metadata__"]["tessera"] = sealed
    return joined(header, tensors)


def changed_settings(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def written(content: bytes) -> bytes:
        header, tensors = parted(content)
        settings = json.loads(header["__metadata__"]["tessera"])
        told = change(settings)
        text = told if isinstance(told, str) else json.dumps(settings)
        header["__metadata__"]["tessera"] = text
        return resealed(header, tensors)

    return written


def changed_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def written(content: bytes) -> bytes:
        header, tensors = parted(content)
        told = change(header)
        return joined(told if isinstance(told, bytes) else header, tensors)

    return written


def with_weight(name: str, weight: torch.Tensor | None) -> Callable[[bytes], bytes]:
    """A stranger's file with another tensor of that name, or none, and the right digest."""

    def written(content: bytes) -> bytes:
        tensors = load(content)
        tensors.pop(name, None)
        if weight is not None:
            tensors[name] = weight
        header, data = parted(save(tensors))
        return resealed({**header, "__metadata__": parted(content)[0]["__metadata__"]}, data)

    return written
