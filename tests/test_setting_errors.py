"""A refused setting carries its name, its value and what is allowed; sections are put once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tessera.commands.fit.config_file import SECTIONS
from tessera.data import GameDataModule, StreamSettings
from tessera.go import Rules
from tessera.model import GameModel, MambaModel, ModelSettings
from tessera.monitor import Defragmentation, TesseraMonitor
from tessera.monitor.schedule import Schedule
from tessera.setting_errors import (
    Problem,
    SettingError,
    fits,
    noted,
    number,
    one_of,
    or_none,
    problems_of,
    under,
    whole,
    whole_number,
)
from tessera.training.module import TesseraModule
from tessera.training.run_folder import RunFolder
from tests.runs import fit

# What is typed, and all that is said of it.
LINES = {
    "--data.board_size 20": "data.board_size must be 2 to 19, got 20.",
    "--data.batch_size 0": "data.batch_size must be at least 1, got 0.",
    "--data.komi 1e31": "data.komi must be a number from -1e+30 to 1e+30, got 1e+31.",
    "--data.ko none": "data.ko must be one of simple, positional, situational, got none.",
    "--data.score points": "data.score must be one of area, pass_alive, got points.",
    "--data.rules phase2 --data.score pass_alive": (
        "data.score must be area where only single stones are captured, got pass_alive."
    ),
    "--data.rules phase2 --data.skip_settled true": (
        "data.skip_settled must be false where only single stones are captured, got True."
    ),
    "--data.rules go": "data.rules must be one of full, phase2, tromp-taylor, got go.",
    "--data.backend gpu": "data.backend must be auto, torch or triton, got gpu.",
    "--data.selfplay_share 2": "data.selfplay_share must be 0 to 1, got 2.0.",
    "--data.context null --data.windows_per_game 2": (
        "data.windows_per_game must be null or 1 where data.context is null (whole games), got 2."
    ),
    "--data.games_per_chunk 1 --data.windows_per_game 1 --data.batch_size 3": (
        "data.games_per_chunk (=1) times the windows of a game (=1) must be a multiple of "
        "data.batch_size, got 3."
    ),
    "--model.d_model 0": "model.d_model must be a whole number of at least 1, got 0.",
    "--model.lr 0": "model.lr must be more than 0, got 0.0.",
    "--model.mixer []": "model.mixer must name a mixer, got [].",
    "--model.mixer mamba2 --model.mamba2.headdim 5": (
        "model.mamba2.headdim must divide d_inner, 16, got 5."
    ),
    "--model.mixer attention --model.attention.num_heads 3": (
        "model.attention.num_heads must divide d_model, 8, into even widths, got 3."
    ),
    "--model.mamba.d_state 0": ("model.mamba.d_state must be a whole number of at least 1, got 0."),
    "--model.feed_forward dense --model.dense.expand 0": (
        "model.dense.expand must be a whole number of at least 1, got 0."
    ),
    "--model.mixer pathlib.Path": (
        "model.mixer: pathlib.Path must be a class derived from tessera.model.Mixer."
    ),
    "--monitor.state_every=-1": "monitor.state_every must be at least 0, got -1.",
    "--monitor.copies_every 2 --monitor.copies_steps 3": (
        "monitor.copies_every must be 0 or at least monitor.copies_steps (=3), got 2."
    ),
    "--defragmentation.every_n_steps 0": (
        "defragmentation.every_n_steps must be at least 1, got 0."
    ),
    "--defragmentation.only_above 0.5": "defragmentation.only_above must be at least 1, got 0.5.",
    "--trainer.log_every_n_steps 0": "trainer.log_every_n_steps must be at least 1, got 0.",
    "--seed_everything=-1": "seed_everything must be 0 to 4294967295, got -1.",
    "--checkpoint_every_n_steps 0": "checkpoint_every_n_steps must be at least 1, got 0.",
    "--run_name a/b": "run_name must be letters, digits, . - and _, got 'a/b'.",
}


@pytest.mark.parametrize(("typed", "line"), LINES.items(), ids=LINES)
def test_a_user_reads_the_name_that_was_typed(
    folder: Path, capfd: pytest.CaptureFixture[str], typed: str, line: str
) -> None:
    assert fit(*typed.split()) == 2
    assert capfd.readouterr() == ("", f"tessera: {line}\n")


def test_a_line_of_every_section_is_compared() -> None:
    assert {line.partition(".")[0] for line in LINES.values()} >= set(SECTIONS)


def test_problems_of_all_sections_are_said_together_each_under_its_own(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = "--data.batch_size 0", "--model.lr 0", "--monitor.state_every=-1"
    assert fit(*" ".join([*typed, "--defragmentation.only_above 0.5"]).split()) == 2
    said = capfd.readouterr().err.splitlines()
    names = "data.batch_size", "monitor.state_every", "defragmentation.only_above", "model.lr"
    assert [line.split()[1] for line in said] == list(names)


# What a Python caller builds, and the problems: a name as it was given, a value, what is allowed.
SIZE = "be a whole number of at least 1"
REFUSED: tuple[tuple[Callable[..., Any], dict[str, Any], list[Problem]], ...] = (
    (
        Rules,
        {"max_moves": 0, "suicide": "no"},
        [Problem("suicide", "'no'", "be true or false"), Problem("max_moves", 0, "be at least 1")],
    ),
    (StreamSettings, {"seed": 0.5}, [Problem("seed", "0.5", "be a whole number")]),
    (
        GameDataModule,
        {"max_moves": 0, "test_batches": 0, "context": 0},
        [Problem(name, 0, "be at least 1") for name in ("max_moves", "test_batches", "context")],
    ),
    (
        Schedule,
        {"copies_every": 2},
        [Problem("copies_every", 2, "be 0 or at least copies_steps (=3)", "copies_steps")],
    ),
    (TesseraMonitor, {"game_every": -1}, [Problem("game_every", -1, "be at least 0")]),
    (Defragmentation, {"every_n_steps": 0}, [Problem("every_n_steps", 0, "be at least 1")]),
    (
        TesseraModule,
        {"d_model": 0, "decay_steps": 0},
        [Problem("d_model", "0", SIZE), Problem("decay_steps", 0, "be at least 1")],
    ),
    (MambaModel, {"d_state": 0}, [Problem("d_state", "0", SIZE)]),
    (
        RunFolder,
        {"name": "a b", "version": 0},
        [Problem("run_name", "'a b'", "be letters, digits, . - and _")],
    ),
)


@pytest.mark.parametrize(("build", "given", "problems"), REFUSED)
def test_a_caller_reads_the_names_of_the_arguments(
    build: Callable[..., Any], given: dict[str, Any], problems: list[Problem]
) -> None:
    with pytest.raises(SettingError) as refused:
        build(**given)
    assert list(refused.value.args) == problems


def test_a_part_of_a_model_stands_under_its_own_name() -> None:
    with pytest.raises(SettingError) as refused:
        GameModel(ModelSettings.of({"d_model": 8, "mamba": {"d_conv": 0}, "seed": 1}))
    assert str(refused.value) == f"mamba.d_conv must {SIZE}, got 0."


def test_sections_are_put_from_within_and_others_are_named_with_them() -> None:
    problem = Problem("context", 3, "be less than width", "width")
    assert str(problem) == "context must be less than width, got 3."
    with pytest.raises(SettingError) as refused, under("model"), under("windows"):
        raise SettingError(problem, Problem("why", "{x} ~ y", "be {}", form="{name}: {value}"))
    assert str(refused.value).splitlines() == [
        "model.windows.context must be less than model.windows.width, got 3.",
        "model.windows.why: {x} ~ y",
    ]
    assert str(problem) == "context must be less than width, got 3."


def test_what_is_noted_is_refused_and_nothing_else() -> None:
    problems: list[Problem] = []
    with noted(problems):
        whole_number("first", 0, 1)
    with noted(problems):
        pass
    with noted(problems), under("a"):
        whole_number("second", 3, 1, 2)
    assert [*map(str, problems)] == [
        "first must be at least 1, got 0.",
        "a.second must be at most 2, got 3.",
    ]
    with pytest.raises(ValueError, match=r"^other$"), noted(problems), under("a"):
        raise ValueError("other")
    assert len(problems) == 2


def test_an_error_of_several_problems_is_pickled() -> None:
    error = SettingError(Problem("a", 1, "be 2"), Problem("b", 3, "be 4", section="c."))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, str(again)) == (SettingError, error.args, str(error))


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (whole(), [0, -(10**30), np.int64(3)], [True, 2.0, "2", None]),
        (whole(1, 3), [1, 3], [0, 4]),
        (number("small", lambda x: x < 1), [0, -1.5], [1, True, "0", None, float("nan")]),
        (one_of("a", "b"), ["a", "b"], ["", "c", ["a"], None]),
        (or_none(whole(1)), [None, 1], [0, False]),
        (fits("a pair", lambda x: len(x) == 2), ["ab"], ["abc"]),
    ],
)
def test_a_check_refuses_only_what_is_not_allowed(
    check: Callable[[str, Any], object], right: list[Any], wrong: list[Any]
) -> None:
    for value in right:
        check("x", value)
    for value in wrong:
        with pytest.raises(SettingError, match=r"^x must be .*, got .*\.$"):
            check("x", value)


def test_a_wrong_value_is_shown_in_one_line() -> None:
    values = ["8", None, [1, 2], torch.zeros(2, 3), np.float32(2)]
    shown = ["'8'", "None", "list", "(2, 3) float32", "float32"]
    for value, text in zip(values, shown, strict=True):
        with pytest.raises(SettingError) as refused:
            whole_number("x", value)
        assert str(refused.value) == f"x must be a whole number, got {text}."


def test_all_attributes_with_a_check_are_looked_at() -> None:
    checks = {
        "board_size": whole(20),
        "seed": whole(0),
        "context": or_none(whole(100)),
        "no": whole(),
    }
    found = problems_of(StreamSettings(), checks)
    assert [problem.name for problem in found] == ["board_size", "context", "no"]
