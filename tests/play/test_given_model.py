"""The model that comes with the program: a player of every size of board, without any training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
import torch

import tessera as program
from tessera.companion import Companion
from tessera.play.gtp import Gtp
from tessera.play.gtp_game import GtpGame
from tessera.training.run_folder import given_model, given_names, name_of_model
from tests.runs import tessera

NAME = "player_9x9"


def test_its_name_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert NAME in given_names()
    assert tessera("map", "--ckpt_path", NAME, "--moves", "E5 C3 G3 G4 H4", "--json", "-") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["probabilities"]["F4"] + told["probabilities"]["F3"] > 0.3
    assert told["probabilities"]["A1"] < 1e-4
    assert told["said_by"]["ownership"] == "model" and len(told["ownership"]) == 9


LIVE_CORNER = "E5 C3 G3 G4 H4 H3 G2 F3 H2 F2 C5 C7 D6 F7 E7 F6 E6 G5 J3 C4 D4 D3"


def test_it_says_whose_the_points_will_be() -> None:
    model = program.load(NAME)
    for more in ("", " F8"):  # black is to move, and white
        found = model.map(LIVE_CORNER + more, playouts=2)
        assert found.said_by == dict.fromkeys(("win", "score", "ownership"), "model")
        assert found.ownership is not None and found.played_out is not None
        assert found.ownership.dtype == torch.float64 and found.ownership.shape == (9, 9)
        assert found.ownership[8, 8] > 0.5, "J1 is black's, who lives there"
        assert found.ownership[8, 0] < -0.3, "A1 is white's"


def test_it_reads_every_size_of_board() -> None:
    found = program.load(NAME, board_size=13).map("G7 D4")
    assert len(found.points) == 13**2 - 2
    assert found.win is not None and 0 < found.win < 1


def test_who_asks_on_another_board_is_told_how(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "large.sgf").write_text("(;GM[1]SZ[13];B[dd])")
    cases = (
        (
            ["--moves", "Q16"],
            "got 'Q16'; the model can be asked on a larger board with --board_size",
        ),
        (["--moves", "I5"], "got 'I5'"),
        (["--moves", "Q16", "--board_size", 19], None),
        (["large.sgf"], "got 13; the model can be asked on it with --board_size 13"),
    )
    for asked, told in cases:
        assert tessera("map", "--ckpt_path", NAME, *asked) == (0 if told is None else 2)
        said = capsys.readouterr().err
        assert said == "" if told is None else said.endswith(f"{told}.\n"), said
    gtp = Gtp(GtpGame(program.load(NAME).session()), "0")
    for size, more in ((13, "; start it with --board_size 13"), (20, "")):
        answer = gtp.answer(f"boardsize {size}")
        assert answer is not None
        assert answer.text.rstrip() == (f"? unacceptable size: the model plays on 9×9 only{more}")


def test_its_name_is_what_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name_of_model(given_model(NAME)) == NAME
    assert name_of_model(Path("a/b.ckpt")) == "a/b.ckpt"
    assert tessera("export", "--ckpt_path", NAME, "--output", "again.safetensors") == 0
    assert f"({NAME}: " in capsys.readouterr().out
    assert tessera("fit", "--config", "small.yaml", "--init_from", NAME) == 2
    assert capsys.readouterr().err.startswith(f"tessera: {NAME} is no start for this model: ")
    timed = ("bench", "search", "--simulations", "0", "--batch_size", "1", "--seconds", "0.01")
    assert tessera(*timed, "--device", "cpu", "--ckpt_path", NAME) == 0
    assert f"\n{NAME}  9×9 " in capsys.readouterr().out


def test_its_name_is_what_the_board_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def begin(_: Companion, name: str) -> NoReturn:
        shown.append(name)
        raise SystemExit(0)

    monkeypatch.setattr("tessera.commands.board.answers.Answers", begin)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # tests that follow have theirs
    assert tessera("board", "--ckpt_path", NAME) == 0
    assert shown == [NAME]


def test_a_file_of_that_name_is_that_file(folder: Path) -> None:
    shutil.copy(given_model(NAME), NAME)
    assert given_model(NAME) == Path(NAME) and given_model("last.ckpt") == Path("last.ckpt")


def test_it_beats_the_rule_based_player(folder: Path) -> None:
    assert tessera("arena", NAME, "rules", "--games", 4, "--json", "match.json") == 0
    (match,) = json.loads(Path("match.json").read_text())["matches"]
    assert match["wins"] == 4
