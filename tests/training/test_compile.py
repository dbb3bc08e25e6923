"""``model.compile`` through the command line, on a machine where there is nothing to compile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tessera.model import GameModel
from tests.runs import fit


@pytest.fixture()
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether batches were said to be of one length, each time that training was compiled."""
    calls: list[bool] = []
    monkeypatch.setattr(GameModel, "can_be_compiled", lambda self: True)
    monkeypatch.setattr(
        GameModel, "compile_training", lambda self, same_length: calls.append(same_length)
    )
    return calls


def test_training_is_compiled_if_it_is_asked_for(folder: Path, asked: list[bool]) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    assert asked == []
    assert fit("--trainer.max_steps", 1, "--model.compile", "true", "--data.context", 12) == 0
    assert asked == [True]


def test_whole_games_are_of_any_length(folder: Path, asked: list[bool]) -> None:
    options = ["--model.compile", "true", "--data.context", "null"]
    options += ["--data.windows_per_game", "null"]
    assert fit("--trainer.max_steps", 1, *options) == 0
    assert asked == [False]


def test_on_a_cpu_it_changes_nothing(folder: Path) -> None:
    assert fit("--trainer.max_steps", 1, "--model.compile", "true") == 0
    assert fit("--trainer.max_steps", 2, "--model.compile", "false", "--ckpt_path", "last") == 0
