"""What forbids waits for a GPU ends with its test: those after it would fail of it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

from tests.waiting import no_waiting

PROTOTYPE = "Synchronization debug mode is a prototype feature and does not yet detect all"


def test_waits_are_forbidden_for_as_long_as_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = ["default"]

    def set_mode(mode: str) -> None:
        """As torch does it, the first time of a process."""
        modes.append(mode)
        warnings.warn(PROTOTYPE, UserWarning, stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with no_waiting():
        assert modes[-1] == "error"
    assert modes[-1] == "default"
    with pytest.raises(RuntimeError, match="synchronizing"), no_waiting():
        raise RuntimeError("called a synchronizing CUDA operation")
    assert modes[-1] == "default"


def test_a_mode_whose_setting_fails_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def set_mode(mode: str) -> None:
        modes.append(mode)
        if mode == "error":
            warnings.warn("torch warns of something else", UserWarning, stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with pytest.raises(UserWarning, match="something else"), no_waiting():
        pass
    assert modes == ["error", "default"]


def test_no_test_sets_the_mode_by_itself(repository: Path) -> None:
    setting = re.compile(r"\.set_sync_debug_mode\(")
    found = {
        str(path.relative_to(repository))
        for folder in ("tests", "tessera")
        for path in (repository / folder).rglob("*.py")
        if setting.search(path.read_text())
    }
    assert found == {"tests/waiting.py"}
