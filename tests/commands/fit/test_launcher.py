"""Processes that torchrun or SLURM starts are as many as the settings say, or nothing is run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tessera.commands.fit import command
from tests.runs import fit, tessera
from tests.training.two_processes import TORCHRUN
from tests.training.two_processes import fit as fit_by_itself

TWO = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
TWO |= {"RANK": "0", "LOCAL_RANK": "0"}
EIGHT = {**TWO, "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2"}
SLURM |= {"SLURM_JOB_NAME": "job", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
ON_NODES = "many as torchrun starts on each node"


@pytest.mark.parametrize(
    ("started", "given", "lines"),
    [
        (TWO, "", ["devices must be 2, as many as torchrun starts, got 1."]),
        (TWO, "devices auto", ["devices must be 2, as many as torchrun starts, got auto."]),
        (TWO, "devices 3", ["devices must be 2, as many as torchrun starts, got 3."]),
        (
            TWO,
            "num_nodes 4",
            [
                "num_nodes must be 1, as many as torchrun starts processes on, got 4.",
                "devices must be 2, as many as torchrun starts, got 1.",
            ],
        ),
        (
            EIGHT,
            "devices 4",
            ["num_nodes must be 2, as many as torchrun starts processes on, got 1."],
        ),
        (EIGHT, "num_nodes 2", [f"devices must be 4, as {ON_NODES}, got 1."]),
        (SLURM, "num_nodes 2", ["devices must be 3, as many as SLURM starts on each node, got 1."]),
        (
            {**SLURM, "SLURM_NTASKS": "5"},  # not as many on each
            "devices 3",
            ["devices must be 5, as many as SLURM starts, got 3."],
        ),
    ],
)
def test_other_numbers_than_the_launchers_are_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    started: dict[str, str],
    given: str,
    lines: list[str],
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    options = ["--trainer." + given.split()[0], given.split()[1]] if given else []
    assert fit("--trainer.accelerator", "cpu", *options) == 2
    assert capfd.readouterr().err.splitlines() == [f"tessera: trainer.{line}" for line in lines]
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("started", "num_lines"),
    [
        ({**TWO, "RANK": "1", "LOCAL_RANK": "1"}, 0),
        ({**SLURM, "SLURM_PROCID": "4", "SLURM_LOCALID": "1"}, 0),
        ({**SLURM, "SLURM_PROCID": "3"}, 2),  # the first one on the second node
    ],
)
def test_only_the_first_process_on_a_machine_says_it(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    started: dict[str, str],
    num_lines: int,
) -> None:
    monkeypatch.setattr(command, "_PATIENCE_S", 0)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert fit("--trainer.accelerator", "cpu") == 2
    out, err = capfd.readouterr()
    assert not out and len(err.splitlines()) == num_lines


def test_predict_is_for_one_process_whoever_starts_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    Path("games.txt").write_text("A1\n")
    capfd.readouterr()
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    given = ["--config", "small.yaml", "--ckpt_path", "last", "--games", "games.txt"]
    assert tessera("predict", *given, "--trainer.accelerator", "cpu") == 2
    assert capfd.readouterr().err == (
        "tessera: trainer.devices must be 1 for predict, which gives the games in order, "
        "got 2 from torchrun.\n"
    )


def test_a_process_that_is_not_the_first_never_opens_a_run_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    before = Path("checkpoints/small/version_0/last.ckpt").read_bytes()
    capfd.readouterr()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for resumed in ([], ["--ckpt_path", "last"]):
        assert fit("--trainer.max_steps", 2, *resumed) == 2
        assert capfd.readouterr().err == (
            "tessera: trainer.devices must be as many as the processes that were started, "
            "got 1 in process 1.\n"
        )
    assert Path("checkpoints/small/version_0/last.ckpt").read_bytes() == before


def test_torchrun_without_devices_leaves_a_finished_run_alone(folder: Path) -> None:
    assert fit("--trainer.max_steps", 2, "--trainer.accelerator", "cpu") == 0

    def found() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in Path().rglob("*")
            if path.is_file()
        }

    before = found()
    assert any(path.endswith("last.ckpt") for path in before)
    # The same number as without the option.
    done = fit_by_itself("small", 1, launcher=TORCHRUN)
    assert done.returncode == 1  # torchrun's own
    said = [line for line in done.stderr.splitlines() if line.startswith("tessera:")]
    assert said == ["tessera: trainer.devices must be 2, as many as torchrun starts, got 1."]
    assert "exitcode  : 2" in done.stderr
    assert found() == before
