"""The model that comes with the program: a player of every size of board, without any training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tessera as program
from tessera.training.run_folder import given_model, given_names
from tests.runs import tessera

NAME = "player_9x9"


def test_its_name_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert NAME in given_names()
    assert tessera("map", "--ckpt_path", NAME, "--moves", "E5 C3 G3 G4 H4", "--json", "-") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["probabilities"]["F4"] + told["probabilities"]["F3"] > 0.3
    assert told["probabilities"]["A1"] < 1e-4


def test_it_reads_every_size_of_board() -> None:
    found = program.load(NAME, board_size=13).map("G7 D4")
    assert len(found.points) == 13**2 - 2
    assert found.win is not None and 0 < found.win < 1


def test_a_file_of_that_name_is_that_file(folder: Path) -> None:
    shutil.copy(given_model(NAME), NAME)
    assert given_model(NAME) == Path(NAME) and given_model("last.ckpt") == Path("last.ckpt")


def test_it_beats_the_rule_based_player(folder: Path) -> None:
    assert tessera("arena", NAME, "rules", "--games", 4, "--json", "match.json") == 0
    (match,) = json.loads(Path("match.json").read_text())["matches"]
    assert match["wins"] == 4
