"""What code a run is a result of: another version may train other bits."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import tessera
from tessera.commands.packages import version_of

# What a run's figures follow from; how runs are planned, run and drawn is none of it.
_ROOMS = ("vocabulary.py", "go", "model", "data", "training")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_version(class_paths: Iterable[str] = ()) -> str:
    """The program's version and a digest of its code, without comments and docstrings.

    Args:
        class_paths: of classes and functions elsewhere, such as parts of a user's own, whose files
            count too.
    """
    digest = hashlib.sha256(_of_the_house().encode())
    for path in class_paths:
        digest.update(f"{path} {_digest(_file_of(path))}".encode())
    return f"{version_of('tessera') or '(not installed)'} {digest.hexdigest()[:12]}"


@functools.cache
def _of_the_house() -> str:
    root = Path(tessera.__file__).parent
    digest = hashlib.sha256()
    for room in _ROOMS:
        place = root / room
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{file.relative_to(root).as_posix()} {_digest(file)}".encode())
    return digest.hexdigest()


def _file_of(class_path: str) -> Path | None:
    spec = importlib.util.find_spec(class_path.rpartition(".")[0])
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _digest(file: Path | None) -> str:
    """Of what a Python file does; of any other file of its bytes."""
    if file is None or not file.is_file():
        return ""
    content = file.read_bytes()
    if file.suffix == ".py":
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, False) is not None:
                del node.body[0]
        content = ast.dump(tree).encode()
    return hashlib.sha256(content).hexdigest()
