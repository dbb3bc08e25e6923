"""One process at a time writes to a run; what a killed one left is removed at the next start."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tessera.training.checkpoint_file import CheckpointError, SaveError, half_written
from tessera.training.run_folder import new_run
from tessera.training.run_lock import RunLock
from tests.runs import fit, python_path, tessera

RUN = Path("checkpoints/small/version_0")

# Another program that writes to the run in the working folder, and is in the middle of it.
WRITER = """
import fcntl, os, sys
lock = open(".writer", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("elsewhere", os.getpid(), file=lock, flush=True)
open(f".last.ckpt.{os.getpid()}", "w").write("half")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen]:
    """A process that holds a run, until it is killed."""
    command = [sys.executable, "-S", "-c", WRITER]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_that_is_written_to_is_refused_and_one_of_a_killed_process_is_not(
    folder: Path, capfd: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 2) == 0
    assert names(RUN) == ["last.ckpt"]
    before = (RUN / "last.ckpt").read_bytes()
    with writer(RUN) as process:
        held = names(RUN)
        capfd.readouterr()
        assert fit("--ckpt_path", "last", "--trainer.max_steps", 4) == 2
        assert capfd.readouterr().err == (
            f"tessera: {RUN} is being written to by process {process.pid} on elsewhere; "
            "wait until it ends, branch off from its file with another run_name, or leave "
            "ckpt_path out for a new run.\n"
        )
        assert names(RUN) == held and (RUN / "last.ckpt").read_bytes() == before
        # It can be read, and a new run of the name is none of its business.
        assert tessera("validate", "--config", "small.yaml", "--ckpt_path", "last") == 0
        assert fit("--trainer.max_steps", 2) == 0
        assert names(RUN) == held and names(RUN.with_name("version_1")) == ["last.ckpt"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert names(RUN) == held
    assert fit("--ckpt_path", RUN / "last.ckpt", "--trainer.max_steps", 4) == 0
    assert names(RUN) == ["last.ckpt"]


def test_a_new_run_removes_what_the_dead_left_in_the_other_versions(folder: Path) -> None:
    runs = [new_run("small").checkpoints for _ in range(4)]
    for path in (".last.ckpt.1", ".alert-x.ckpt.77", "last.ckpt", ".own", ".last.ckpt", ".writer"):
        (runs[0] / path).touch()
    (runs[1] / ".last.ckpt.1").touch()  # of a version that knew no locks
    with writer(runs[2]) as process:
        lock = RunLock()
        lock.take(runs[3])
        assert names(runs[0]) == [".last.ckpt", ".own", "last.ckpt"]
        assert names(runs[1]) == []
        assert names(runs[2]) == [f".last.ckpt.{process.pid}", ".writer"]
        assert (runs[3] / ".writer").read_text() == f"{socket.gethostname()} {os.getpid()}\n"
        lock.release()
        lock.release()
    assert names(runs[3]) == []


def test_who_waited_for_a_file_that_was_removed_locks_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock, first = tmp_path / ".writer", fcntl.flock, RunLock()
    first.take(tmp_path)

    def wait(descriptor: int, operation: int) -> None:
        # The first ends after the second has opened its file, and before it has the lock.
        monkeypatch.setattr(fcntl, "flock", flock)
        first.release()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", wait)
    second = RunLock()
    second.take(tmp_path)
    assert path.exists()
    with pytest.raises(CheckpointError, match=f"process {os.getpid()} on "):
        RunLock().take(tmp_path)
    second.release()


def test_a_run_starts_when_its_folder_is_only_being_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RunLock(), RunLock()
    first.take(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: first.release())
    second.take(tmp_path)
    second.release()


def test_without_locks_a_line_says_so_and_the_run_goes_on(
    folder: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert fit("--trainer.max_steps", 1) == 0
    told = [x for x in capfd.readouterr().err.splitlines() if x.startswith("tessera:")]
    assert told == [
        f"tessera: {RUN}: this file system has no locks (No locks available), so nothing keeps a "
        "second process from writing to the run."
    ]
    # Who knows whether somebody is still writing.
    (RUN / ".last.ckpt.1").touch()
    assert fit("--trainer.max_steps", 2, "--ckpt_path", "last") == 0
    assert names(RUN) == [".last.ckpt.1", "last.ckpt"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EROFS, CheckpointError),
        (errno.EACCES, CheckpointError),
        (errno.ENOSPC, SaveError),
        (errno.EIO, SaveError),
    ],
)
def test_a_folder_that_takes_no_file_is_one_line_and_leaves_no_run(
    folder: Path,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[Exception],
) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "ftruncate", refuse)
    assert fit() == (2 if kind is CheckpointError else 1)
    told = capfd.readouterr().err
    assert told == f"tessera: {RUN} cannot be written to ({os.strerror(number)}).\n"
    assert not any(Path("checkpoints").rglob("*")) and not Path("lightning_logs").exists()


def test_another_node_that_would_train_alone_is_refused_and_locks_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    before = (RUN / "last.ckpt").read_bytes()
    capfd.readouterr()
    # The second of two nodes, each with one process, and num_nodes forgotten.
    monkeypatch.setenv("NODE_RANK", "1")
    assert fit("--trainer.max_steps", 2, "--ckpt_path", "last") == 2
    assert "must be as many as the processes that were started" in capfd.readouterr().err
    assert (RUN / "last.ckpt").read_bytes() == before and not (RUN / ".writer").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_saves_goes_on(folder: Path, repository: Path) -> None:
    """Two real processes: the second is refused while the first lives, then takes over."""
    command = [sys.executable, "-m", "tessera", "fit", "--config", "small.yaml"]
    command += ["--checkpoint_every_n_steps", "1", "--trainer.max_steps", "1000000"]
    # Wide, so that most of the time goes into saving.
    command += ["--model.d_model", "1024"]
    environment = {**os.environ, "PYTHONPATH": python_path(repository)}
    last = RUN / "last.ckpt"
    again = [*command, "--ckpt_path", str(last)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while not last.exists():
            time.sleep(0.05)
            assert process.poll() is None
        second = subprocess.run(again, env=environment, capture_output=True, text=True)
        assert second.returncode == 2 and second.stderr.count("\n") == 1
        assert f"process {process.pid} on {socket.gethostname()}" in second.stderr
        while not half_written(RUN):
            pass
    finally:
        process.kill()
        process.wait()
    assert half_written(RUN) and (RUN / ".writer").exists()
    third = subprocess.Popen(again, env=environment, stderr=subprocess.DEVNULL)
    try:
        before = last.stat().st_mtime_ns
        while last.stat().st_mtime_ns == before:
            time.sleep(0.05)
            assert third.poll() is None
        third.terminate()
        assert third.wait() == 143
    finally:
        third.kill()
        third.wait()
    assert names(RUN) == ["last.ckpt"]
