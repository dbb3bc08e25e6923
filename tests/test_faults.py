"""What a machine does to a command: one line, and the code that says whose fault it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.commands import doctor
from tessera.commands.named_configs import names_in_words
from tessera.monitor import Alert, Sinks
from tessera.training import AtomicCheckpointIO, TesseraModule
from tessera.training.tensorboard import GroupedLogger, SaveSettings
from tests.full_disk import files_of_at_most
from tests.runs import fit, tessera

# Faults that reach the top.


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "x: No space left on device."),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
        (OSError(errno.EMFILE, "Too many open files", b"y"), "y: Too many open files."),
        (OSError("odd\nthings"), "odd things."),
        (MemoryError(), "out of memory."),
        (MemoryError("out of memory while playing."), "out of memory while playing."),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: x"), "out of memory."),
        (
            RuntimeError("can't start new thread"),
            "no more threads can be started here (see ulimit -u).",
        ),
    ],
)
def test_a_fault_of_the_machine_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, error: Exception, line: str
) -> None:
    def look() -> list[doctor.Line]:
        raise error

    monkeypatch.setattr(doctor, "look", look)
    assert tessera("doctor") == 1
    assert capsys.readouterr() == ("", f"tessera: {line}\n")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> list[doctor.Line]:
        raise KeyError("planted")

    monkeypatch.setattr(doctor, "look", look)
    with pytest.raises(KeyError, match="planted"):
        tessera("doctor")


def test_a_training_that_runs_out_of_memory_says_what_to_lower(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(self: TesseraModule, *args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(TesseraModule, "training_step", full)
    assert fit() == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("tessera: out of memory: lower data.batch_size")


# What is asked for and cannot be had.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("folder", "config folder must be a file, got a folder."),
        ("pipe", "config pipe must be a file, got a pipe or a device."),
        ("/dev/null", "config /dev/null must be a file, got a pipe or a device."),
        ("small.yaml/x", "config small.yaml/x cannot be read: Not a directory."),
        ("loop", "config loop cannot be read: Too many levels of symbolic links."),
        ("dangling", f"config must be a file or one of {names_in_words()}, got dangling."),
        ("x" * 300, f"config {'x' * 300} cannot be read: File name too long."),
    ],
)
def test_a_configuration_that_is_no_file(
    folder: Path, capsys: pytest.CaptureFixture, config: str, message: str
) -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    assert tessera("fit", "--config", config) == 2
    assert capsys.readouterr().err == f"tessera: {message}\n"


def test_a_configuration_that_may_not_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(self: Path, **kwargs: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    assert fit() == 2
    assert (
        capsys.readouterr().err == "tessera: config small.yaml cannot be read: Permission denied.\n"
    )


@pytest.mark.parametrize("options", [(), ("--ckpt_path", "last")], ids=["new", "resumed"])
def test_a_name_that_is_too_long_for_a_folder(
    folder: Path, capsys: pytest.CaptureFixture, options: tuple[str, ...]
) -> None:
    assert fit("--run_name", "x" * 300, *options) == 2
    message = "run_name must be at most 255 bytes long, got 300."
    assert capsys.readouterr().err == f"tessera: {message}\n"


@pytest.mark.parametrize("name", ["checkpoints", "lightning_logs"])
@pytest.mark.parametrize("obstacle", ["file", "link to nowhere", "read-only folder"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    name: str,
    obstacle: str,
) -> None:
    if obstacle == "file":
        Path(name).touch()
    elif obstacle == "link to nowhere":
        Path(name).symlink_to("nowhere/at/all")
    else:
        make = Path.mkdir

        def refuse(self: Path, *args: Any, **kwargs: Any) -> None:  # root may write everywhere
            if self.parts[0] == name:
                raise OSError(errno.EROFS, "Read-only file system", str(self))
            make(self, *args, **kwargs)

        monkeypatch.setattr(Path, "mkdir", refuse)
    assert fit() == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"tessera: {name}")
    assert told.endswith("; a run needs a folder that it can write to.")
    assert not any(Path("checkpoints").rglob("*")) and not any(Path("lightning_logs").rglob("*"))


def test_a_run_whose_folder_became_read_only_is_not_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    capsys.readouterr()
    access = os.access
    monkeypatch.setattr(  # root may write everywhere
        os, "access", lambda path, mode: mode != os.W_OK and access(path, mode)
    )
    assert fit("--ckpt_path", "last") == 2
    assert "checkpoints/small/version_0: Permission denied; a run" in capsys.readouterr().err
    assert Path("checkpoints/small/version_0/last.ckpt").is_file()


def test_a_working_folder_that_is_gone(folder: Path, capsys: pytest.CaptureFixture) -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").resolve().rmdir()
    for arguments in (["fit", "--config", "../small.yaml"], ["doctor"]):
        assert tessera(*arguments) == 2
        line = "tessera: the working folder cannot be used: No such file or directory.\n"
        assert capsys.readouterr().err == line
    assert tessera("--version") == 0
    os.chdir(folder)


def test_a_json_file_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (".", "x" * 300, "small.yaml/x", "none/x"):
        assert tessera("doctor", "--json", path) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith("tessera doctor: --json")
    assert tessera("doctor", "--json", "/dev/full") == 1
    out, err = capsys.readouterr()
    assert "python" in out and err == "tessera: /dev/full: No space left on device.\n"


# Curves that cannot be written while a training goes on.


def test_curves_end_whole_when_the_disk_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    logger = GroupedLogger(tmp_path, "run", "version_0")
    logger.log_metrics({"train/loss": 1.0}, 1)
    (file,) = tmp_path.rglob("events.*")
    (file.parent / logger.NAME_HPARAMS_FILE).mkdir()  # in the way
    whole = file.read_bytes()
    with files_of_at_most(len(whole) + 20):
        for step in range(2, 5):
            logger.log_metrics({"train/loss": 1.0}, step)
            logger.experiment.add_text("settings", "text")
        logger.save()
        logger.finalize("success")
    (told,) = capsys.readouterr().err.splitlines()
    assert "run/version_0: no curves are written from now on" in told
    assert file.read_bytes() == whole and len(list(file.parent.glob("events.*"))) == 1


def test_alerts_end_with_a_whole_line_when_the_disk_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    logger = CSVLogger(tmp_path)
    sinks = Sinks(logger)
    alert = Alert(7, "ssm_state_norm", 120.0, 100.0, "high", "ssm_state_norm 120 is above 100")
    sinks.alert(alert)
    file = Path(logger.log_dir) / "alerts.jsonl"
    first = file.read_text()
    with files_of_at_most(len(first) + 20):
        for _ in range(3):
            sinks.alert(alert)
    assert file.read_text() == first and json.loads(first)["step"] == 7
    assert capsys.readouterr().err.count("alerts.jsonl is left out from now on") == 1


def test_a_training_goes_on_without_its_curves(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(self: TesseraModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            shutil.rmtree("lightning_logs")

    monkeypatch.setattr(TesseraModule, "on_train_batch_start", lose)
    assert fit() == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tessera:")]
    assert len(told) == 1 and "no curves are written from now on" in told[0]
    assert torch.load("checkpoints/small/version_0/last.ckpt")["global_step"] == 20


def test_settings_that_cannot_be_saved_cost_the_curves_and_no_more(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = SaveSettings.save_config

    def in_the_way(
        self: SaveSettings, trainer: Trainer, pl_module: LightningModule, stage: str
    ) -> None:
        Path("lightning_logs/small/version_0/config.yaml").mkdir()
        save(self, trainer, pl_module, stage)

    monkeypatch.setattr(SaveSettings, "save_config", in_the_way)
    assert fit("--trainer.max_steps", 2) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tessera:")]
    assert len(told) == 1 and "no curves are written from now on" in told[0]
    log = EventAccumulator("lightning_logs/small/version_0")
    log.Reload()
    assert log.Tags()["scalars"] == []


def test_a_fault_while_a_checkpoint_is_saved_ends_a_training_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", "last.ckpt")

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    assert fit("--trainer.max_steps", 2) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "tessera: last.ckpt: Input/output error."
