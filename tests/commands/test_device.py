"""The device that a command is given: a GPU by its number is the current one from then on."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from torch.cuda._utils import _get_device_index

from tessera.commands.arguments import OneLineParser, find_device


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which of two GPUs became the current one."""
    found: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    # As torch looks at it, which refuses "cuda" alone.
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: found.append(_get_device_index(gpu)))
    return found


def found(device: str) -> torch.device:
    return find_device(Namespace(device=device, json=None), OneLineParser(prog="x"), [])


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0", "cpu"])
def test_the_first_gpu_is_the_current_one_as_it_is(current: list[int], name: str) -> None:
    assert found(name).type == ("cpu" if name == "cpu" else "cuda") and current == []


def test_another_gpu_is_made_the_current_one(
    current: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert found("cuda:1") == torch.device("cuda:1") and current == [1]
    with pytest.raises(SystemExit):
        found("cuda:2")
    assert "finds 2 CUDA devices here, got cuda:2." in capsys.readouterr().err and current == [1]
