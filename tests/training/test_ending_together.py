"""Processes that train together end together, with one line and the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tessera.signals import Stopped
from tessera.training.processes import EndedTogether, OtherProcessError
from tests.runs import python_path

ROOT = Path(__file__).parents[2]


def failed(script: str, error: BaseException) -> BaseException:
    """What becomes of an error when another process of the run is this shell script."""
    other = subprocess.Popen(["sh", "-c", script])
    launcher = SimpleNamespace(procs=[other])
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(launcher=launcher), world_size=2, global_rank=0
    )
    with pytest.raises(BaseException) as ended, EndedTogether(trainer):
        raise error
    assert other.returncode is not None and launcher.procs == []
    return ended.value


def test_a_lost_connection_is_told_by_what_became_of_the_other_process() -> None:
    lost = RuntimeError("Connection closed by peer")
    for script, message in (("exit 1", ""), ("kill -9 $$", "was ended by SIGKILL.")):
        ended = failed(script, lost)
        assert isinstance(ended, OtherProcessError) and str(ended).endswith(message)
        assert ended.__cause__ is lost
    ended = failed("exit 143", lost)
    assert isinstance(ended, Stopped) and ended.number == signal.SIGTERM


def test_no_process_outlives_the_first_one_and_its_error_stays_what_it_was() -> None:
    for error in (OSError("disk"), Stopped(signal.SIGINT), SystemExit(143)):
        assert failed("sleep 60", error) is error


FAIL = """
import errno, os, signal, time
from lightning.pytorch import Callback

class Fail(Callback):
    def __init__(self, how: str):
        self.how = how

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx != 3:
            return
        if self.how == "stop" and trainer.global_rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.how == "disk" and trainer.global_rank == 1:
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        if self.how == "hang":
            if trainer.global_rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("stop", 143, "stopped by SIGTERM at step 4; resume: tessera fit"),
        ("disk", 1, "x: No space left on device."),
        ("hang", 1, "another process of this run was ended by SIGKILL."),
    ],
)
def test_two_processes_end_together_in_one_line(
    folder: Path, how: str, code: int, line: str
) -> None:
    Path("fail.py").write_text(FAIL)
    callback = f'[{{"class_path": "fail.Fail", "init_args": {{"how": "{how}"}}}}]'
    options = ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    options += ["--trainer.strategy", "ddp", "--trainer.callbacks", callback]
    done = subprocess.run(
        [sys.executable, "-m", "tessera", "fit", "--config", "small.yaml", *options],
        env={**os.environ, "PYTHONPATH": python_path(ROOT, folder)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    told = [x for x in done.stderr.splitlines() if not x.startswith(("step", "validation"))]
    assert done.returncode == code and len(told) == 1, done.stderr
    assert told[0].startswith(f"tessera: {line}")
    assert (how == "stop") == Path("checkpoints/small/version_0/last.ckpt").is_file()
