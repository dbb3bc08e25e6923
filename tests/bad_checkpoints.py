"""Checkpoints that no command can use: damaged, other programs', or with wrong content."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tessera.training import AtomicCheckpointIO
from tessera.training.checkpoint_content import read_checked
from tessera.training.export import exported
from tests.judging import Case, Content

_GOOD = Path("checkpoints/small/version_0/last.ckpt")

# What a checkpoint is used for.
_COMMANDS = (
    "validate",
    "predict --games game.txt",
    "fit --config small.yaml --trainer.max_steps 30",
)
_OF_EXPORTED = (_COMMANDS[0], "map --moves A1", "export --output x.safetensors")


# What a measurement has no use for, and can do without.
_OF_TRAINING = (
    *("no_optimizer", "no_loops", "no_global_step", "no_datamodule", "negative_epoch"),
    "number_for_a_start",
)


def checkpoints() -> Iterator[Case]:
    """A case for each file; for what is in a whole one, with each command that takes it."""
    for name, content in {**_DAMAGE, **_EDITS}.items():
        files = {"game.txt": "A1\n", f"{name}.ckpt": content}
        commands = _COMMANDS[:1] if name in _DAMAGE else _COMMANDS
        for command in _COMMANDS[2:] if name in _OF_TRAINING else commands:
            yield Case(f"{command} --ckpt_path {name}.ckpt", f"{name}.ckpt", files)
    for name, content in _EXPORTED.items():
        for command in _COMMANDS[2:] if name == "exported" else _OF_EXPORTED:
            file = f"{name}.safetensors"
            yield Case(f"{command} --ckpt_path {file}", f"{file} ", {file: content})


def _bytes(change: Callable[[bytearray], bytes | bytearray | None]) -> Content:
    """A file that differs from the good checkpoint in its bytes."""

    def write(path: Path) -> None:
        content = bytearray(_GOOD.read_bytes())
        path.write_bytes(change(content) or content)

    return write


def _exported(
    change: Callable[[bytearray], bytes | bytearray | None], precision: str | None = None
) -> Content:
    """An exported model that differs from the good one in its bytes."""

    def write(path: Path) -> None:
        content = bytearray(exported(read_checked(_GOOD, is_fit=False), precision, "1"))
        path.write_bytes(change(content) or content)

    return write


def _flip(where: Callable[[bytearray], int]) -> Content:
    def change(content: bytearray) -> None:
        content[where(content)] ^= 0x10

    return _bytes(change)


def _content(change: Callable[[dict[str, Any]], Any]) -> Content:
    """A whole file, with this program's seal, that differs from the good one in its content."""

    def write(path: Path) -> None:
        content = torch.load(_GOOD, weights_only=True)
        AtomicCheckpointIO().save_checkpoint(change(content) or content, path)

    return write


def _foreign(content: Callable[[], Any], **options: Any) -> Content:
    """A file of another program's."""

    def write(path: Path) -> None:
        torch.save(content(), path, **options)

    return write


def _directory(content: bytearray) -> int:
    """Where the zip's directory begins."""
    return content.index(b"PK\x01\x02")


def _entry_of_weights(content: bytearray) -> int:
    """The directory's entry of the first weight."""
    names = (b"/data/0", b"/data/1")
    entry = content.rindex(names[0], _directory(content)) - 46
    return content.rindex(b"PK\x01\x02", 0, entry + 46)


_DAMAGE: dict[str, Content] = {
    "empty": b"",
    "text": "hello\n",
    "yaml": "trainer: {max_steps: 20}\n",
    "zeros": bytes(100_000),
    "half": _bytes(lambda content: content[: len(content) // 2]),
    "torn": _bytes(lambda content: content[:-1]),
    "longer": _bytes(lambda content: content + b"x"),
    "twice": _bytes(lambda content: content + content),
    "headless": _bytes(lambda content: content[1:]),
    "first_byte": _flip(lambda content: 0),
    "last_byte": _flip(lambda content: len(content) - 1),
    "middle": _flip(lambda content: len(content) // 2),
    "early": _flip(lambda content: len(content) // 10),
    "late": _flip(lambda content: len(content) * 9 // 10),
    "directory_start": _flip(_directory),
    "directory_attributes": _flip(lambda content: _entry_of_weights(content) + 38),
    "directory_date": _flip(lambda content: _entry_of_weights(content) + 12),
    "directory_offset": _flip(lambda content: _entry_of_weights(content) + 42),
    "directory_size": _flip(lambda content: _entry_of_weights(content) + 24),
    "directory_crc": _flip(lambda content: _entry_of_weights(content) + 16),
    "directory_flags": _flip(lambda content: _entry_of_weights(content) + 8),
    "local_date": _flip(lambda content: 10),
    "end": _flip(lambda content: content.rindex(b"PK\x05\x06") + 10),
}


def _header_length(content: bytes | bytearray) -> int:
    return int.from_bytes(content[:8], "little")


def _with(old: bytes, new: bytes) -> Callable[[bytearray], bytearray]:
    """Bytes exchanged for as many others."""
    assert len(old) == len(new)
    return lambda content: content.replace(old, new, 1)


_EXPORTED: dict[str, Content] = {
    "exported": _exported(lambda content: None),  # which no run goes on from
    "half_exported": _exported(lambda content: content[: len(content) // 2]),
    "torn_exported": _exported(lambda content: content[:-1]),
    "short_exported": _exported(lambda content: content[:9]),
    "longer_exported": _exported(lambda content: content + b"x"),
    "header_alone": _exported(lambda content: content[: 8 + _header_length(content)]),
    "weight_exported": _exported(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "weight_int8": _exported(lambda content: content[:-1] + bytes([content[-1] ^ 1]), "int8"),
    "format_exported": _exported(_with(b'format\\": 1', b'format\\": 2')),
    "settings_exported": _exported(_with(b'd_model\\": 8', b'd_model\\": 9')),
    "twice_exported": _exported(_with(b'n_layers\\"', b'd_model\\" ')),
    "dtype_exported": _exported(_with(b'"F32"', b'"F16"')),
    "no_settings": _exported(_with(b'"tessera"', b'"nothing"')),
    "long_header": _exported(lambda content: b"\xff" * 8 + content[8:]),
    "no_header": _exported(lambda content: bytes(8) + content[8:]),
    "no_json": _exported(lambda content: content[:8] + b"{" * (len(content) - 8)),
    "sparse": _exported(lambda content: content + bytes(50_000_000)),
}


def _drop(key: str) -> Content:
    def change(content: dict[str, Any]) -> None:
        content.pop(key)

    return _content(change)


def _put(key: str, value: object) -> Content:
    return _content(lambda content: {**content, key: value})


def _weights(change: Callable[[dict[str, torch.Tensor], str], Any]) -> Content:
    """A file whose state_dict was changed, given it and the name of its first weight."""

    def edit(content: dict[str, Any]) -> None:
        change(content["state_dict"], next(iter(content["state_dict"])))

    return _content(edit)


class _Runs:
    """Something that a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path("ran"),)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"nonsense")


_EDITS: dict[str, Content] = {
    "zip": _zip,
    "legacy": _foreign(dict, _use_new_zipfile_serialization=False),
    "pickle": _foreign(lambda: {"hyper_parameters": {}, "runs": _Runs()}),
    "tensor": _foreign(lambda: torch.zeros(3)),
    "list": _foreign(lambda: [1, 2]),
    "model": _foreign(lambda: torch.nn.Linear(2, 2)),
    "weights": _foreign(lambda: torch.nn.Linear(2, 2).state_dict()),
    "lightning": _foreign(
        lambda: {
            "epoch": 0,
            "global_step": 3,
            "pytorch-lightning_version": "2.6.0",
            "state_dict": torch.nn.Linear(2, 2).state_dict(),
            "loops": {},
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [],
            "hyper_parameters": {"lr": 0.1, "hidden": 7},
            "hparams_name": "kwargs",
        }
    ),
    "bare_lightning": _foreign(lambda: {"hyper_parameters": {"lr": 0.1}}),
    "no_state_dict": _drop("state_dict"),
    "no_global_step": _drop("global_step"),
    "no_loops": _drop("loops"),
    "no_hyper_parameters": _drop("hyper_parameters"),
    "no_datamodule": _drop("datamodule_hyper_parameters"),
    "no_optimizer": _drop("optimizer_states"),
    "no_version": _drop("pytorch-lightning_version"),
    "list_state_dict": _put("state_dict", []),
    "text_state_dict": _put("state_dict", {"a": "b"}),
    "list_hyper_parameters": _put("hyper_parameters", [1]),
    "negative_step": _put("global_step", -5),
    "text_step": _put("global_step", "many"),
    "number_for_a_start": _put("init_from", 3),
    "negative_epoch": _put("epoch", -1),
    "list_loops": _put("loops", [1]),
    "negative_batches": _content(lambda content: _set_batches(content, -7)),
    "text_batches": _content(lambda content: _set_batches(content, "many")),
    "nan": _weights(lambda weights, name: weights[name].view(-1)[:1].fill_(torch.nan)),
    "inf": _weights(lambda weights, name: weights[name].view(-1)[-1:].fill_(torch.inf)),
    "shape": _weights(lambda weights, name: weights.update({name: torch.zeros(2, 2)})),
    "extra": _weights(lambda weights, name: weights.update({"model.extra": torch.zeros(2)})),
    "missing": _weights(lambda weights, name: weights.pop(name)),
    "whole_numbers": _weights(lambda weights, name: weights.update({name: weights[name].int()})),
    "wider": _content(lambda content: content["hyper_parameters"].update(d_model=16)),
    "huge": _content(lambda content: content["hyper_parameters"].update(d_model=10**9)),
    "text_width": _content(lambda content: content["hyper_parameters"].update(d_model="wide")),
    "unknown_setting": _content(lambda content: content["hyper_parameters"].update(hidden=7)),
    "board": _content(lambda content: content["datamodule_hyper_parameters"].update(board_size=99)),
}


def _set_batches(content: dict[str, Any], batches: object) -> None:
    for part in content.values():
        if isinstance(part, dict) and "batches_trained" in part:
            part["batches_trained"] = batches
