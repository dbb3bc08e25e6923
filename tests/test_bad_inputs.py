"""Hundreds of bad settings and files: one line, exit code 2 and an untouched disk for each.

Alone: ``python -m pytest tests/test_bad_inputs.py -m slow -s``.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests import judging

_MISTAKES = (
    "bad_settings:settings",
    "bad_commands:commands",
    "bad_machine:locked_files",
    "bad_files:files",
    "bad_checkpoints:checkpoints",
)
_MACHINE = ("bad_machine:machine_faults",)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables speak of a machine without a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def judge(tables: Sequence[str], folder: Path) -> list[tuple[str, list[str]]]:
    """What ``judging.judge`` says in a process in which nothing was trained yet."""
    new_process = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, new_process) as pool:
        return pool.submit(judging.judge, tables, str(folder)).result()


def failures(judged: Sequence[tuple[str, list[str]]]) -> list[str]:
    """A line for each case that was not answered as it should be."""
    return [f"{case}: {'; '.join(faults)[:500]}" for case, faults in judged if faults]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bad_inputs_are_one_line_exit_code_2_and_an_untouched_disk(tmp_path: Path) -> None:
    judged = judge(_MISTAKES, tmp_path)
    wrong = failures(judged)
    right = len(judged) - len(wrong)
    print("", *wrong, sep="\n")
    print(f"{right} of {len(judged)} bad inputs gave one line, exit code 2 and an untouched disk")
    assert len(judged) >= 200
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_faults_of_the_machine_are_one_line_exit_code_1_and_the_old_checkpoint(
    tmp_path: Path,
) -> None:
    judged = judge(_MACHINE, tmp_path)
    wrong = failures(judged)
    right = len(judged) - len(wrong)
    print("", *wrong, sep="\n")
    print(f"{right} of {len(judged)} faults of the machine gave one line and exit code 1")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_the_judge_faults_commands_that_do_something(tmp_path: Path) -> None:
    judged = judge(["bad_commands:good_commands"], tmp_path)
    assert all("exit code 0" in faults for _, faults in judged), judged
