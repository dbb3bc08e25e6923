"""What every test shares: where the repository is, and that GPU tests say why they did not run."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from tests.runs import SMALL


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a configuration small.yaml that trains in a second."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test marked ``gpu`` on a machine where torch finds no CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch finds none here")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Takes what is there for good, modules and tests, out of what is searched for garbage.

    A search of all of it takes half a second, and a run that is trained asks for two.
    """
    gc.collect()
    gc.freeze()
