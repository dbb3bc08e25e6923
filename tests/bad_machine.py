"""Commands whose machine fails, or whose files belong to somebody else; what is said of each."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.judging import Case

_FIT = "fit --config small.yaml"
_LAST = "--ckpt_path last --run_name small"


@contextmanager
def _full_output() -> Iterator[None]:
    """Standard output is a disk without room."""
    before, full = os.dup(1), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    yield
    os.dup2(before, 1)


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@contextmanager
def _locked(name: str, mode: int) -> Iterator[None]:
    """A file or folder has such rights, and binds this person, even root."""
    before = Path(name).stat().st_mode
    Path(name).chmod(mode)
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
    yield
    Path(name).chmod(before)


# What belongs to somebody else: command line, a part of the answer, which file, its rights.
_LOCKED = (
    (_FIT, "small.yaml", "small.yaml", 0),
    (f"predict {_LAST} --games game.txt", "game.txt", "game.txt", 0),
    (f"validate {_LAST}", "last.ckpt", "checkpoints/small/version_0/last.ckpt", 0),
    (f"validate {_LAST}", "checkpoints", "checkpoints/small", 0),
    ("validate --ckpt_path checkpoints/small/version_0/last.ckpt", "last.ckpt", "checkpoints", 0),
    (f"map {_LAST} game.txt", "game.txt", "game.txt", 0),
    (f"map {_LAST} --moves A1 --sgf game.txt", "--sgf", "game.txt", 0o444),
    (f"map {_LAST} --moves A1 --output map.png", "--output", ".", 0o555),
    (f"export {_LAST} --output x.safetensors", "--output", ".", 0o555),
    (f"export {_LAST} --output x.safetensors", "last.ckpt", "checkpoints/small", 0),
    (f"export {_LAST} --output x.safetensors --json game.txt", "--json", "game.txt", 0o444),
    ("doctor --json game.txt", "--json", "game.txt", 0o444),
    ("doctor --json doctor.json", "--json", ".", 0o555),
    (f"validate {_LAST} --json game.txt", "--json", "game.txt", 0o444),
    (f"test {_LAST} --json new.json", "--json", ".", 0o555),
    (f"test {_LAST} --json game.txt", "--json", ".", 0o555),
    (f"test {_LAST} --reliability found.svg", "--reliability", ".", 0o555),
    ("bench engine --json game.txt", "--json", "game.txt", 0o444),
    ("check --json game.txt", "--json", "game.txt", 0o444),
    (_FIT, "checkpoints", ".", 0o555),
)

# What the machine does to a command that is right: command line, what is said, how.
_MACHINE = (
    (
        f"{_FIT} {_LAST} --trainer.max_steps 40 --trainer.logger false",
        "last.ckpt",
        partial(_full_disk, 12_000),
    ),
    (f"{_FIT} --trainer.logger false", "last.ckpt", partial(_full_disk, 2000)),
    (f"validate {_LAST} --json found.json", "found.json", partial(_full_disk, 500)),
    (f"map {_LAST} --moves A1 --output map.png", "map.png", partial(_full_disk, 500)),
    (f"export {_LAST} --output x.safetensors", "x.safetensors", partial(_full_disk, 500)),
    (f"validate {_LAST} --reliability a.svg", "a.svg", partial(_full_disk, 500)),
    *(
        (arguments, "", _full_output)
        for arguments in (
            "--help",
            "--version",
            "doctor",
            "fit --print_config",
            f"validate {_LAST}",
            f"test {_LAST}",
            f"test {_LAST} --json -",
            f"predict {_LAST} --games game.txt",
            f"map {_LAST} --moves A1",
            f"map {_LAST} --moves A1 --json -",
            f"export {_LAST} --output x.safetensors --int8 --games 1",
        )
    ),
)


def locked_files() -> Iterator[Case]:
    """A case for each file that may not be touched."""
    for arguments, says, name, mode in _LOCKED:
        yield Case(arguments, says, {"game.txt": "A1\n"}, hinder=partial(_locked, name, mode))


def machine_faults() -> Iterator[Case]:
    """A case for each fault of the machine."""
    for arguments, says, hinder in _MACHINE:
        yield Case(arguments, says, {"game.txt": "A1\n"}, code=1, hinder=hinder)
