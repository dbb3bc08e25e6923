"""Signals end a command with one line and the code that a shell expects, wherever it is."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tessera import cli
from tessera.commands import doctor
from tessera.signals import Stopped, StopSignals
from tessera.training import TesseraModule
from tests.runs import fit, python_path, tessera

HOLDING = """
import signal, time
from tessera.signals import StopSignals
with StopSignals() as signals:
    signals.is_held = True
    print("ready", flush=True)
    while signals.received is None:
        time.sleep(0.001)
    print(signals.received, flush=True)
    time.sleep(0.6)
"""


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def hit(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str, int], None]:
    """Sends this process a signal at the beginning of a function."""

    def plant(where: object, name: str, number: int) -> None:
        original = getattr(where, name)

        def killed(*args: Any, **kwargs: Any) -> Any:
            kill(number)
            return original(*args, **kwargs)

        monkeypatch.setattr(where, name, killed)

    return plant


@pytest.mark.parametrize(
    ("command", "step", "number", "code"),
    [
        ("validate", "validation_step", signal.SIGTERM, 143),
        ("test", "test_step", signal.SIGINT, 130),
        ("predict", "predict_step", signal.SIGHUP, 129),
        ("validate", "setup", signal.SIGINT, 130),
        ("predict", "on_predict_start", signal.SIGTERM, 143),
    ],
)
def test_a_measurement_is_ended(
    folder: Path,
    capsys: pytest.CaptureFixture,
    hit: Callable[..., None],
    command: str,
    step: str,
    number: int,
    code: int,
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    Path("games.txt").write_text("A1 B2")
    games = ["--games", "games.txt"] if command == "predict" else []
    capsys.readouterr()
    hit(TesseraModule, step, number)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert tessera(command, "--ckpt_path", "last", "--run_name", "small", *games) == code
    name = signal.Signals(number).name
    assert capsys.readouterr() == ("", f"tessera: stopped by {name}.\n")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("hook", ["setup", "on_train_start"])
def test_a_training_that_has_made_no_step_ends_at_once(
    folder: Path, capsys: pytest.CaptureFixture, hit: Callable[..., None], hook: str
) -> None:
    hit(TesseraModule, hook, signal.SIGTERM)
    assert fit() == 143
    assert capsys.readouterr() == ("", "tessera: stopped by SIGTERM before the first step.\n")
    assert not any(Path("checkpoints").rglob("*.ckpt"))


def test_a_training_in_its_first_step_makes_it_and_saves(
    folder: Path, capsys: pytest.CaptureFixture, hit: Callable[..., None]
) -> None:
    hit(TesseraModule, "training_step", signal.SIGTERM)
    assert fit() == 143
    assert "stopped by SIGTERM at step 1; resume: tessera fit" in capsys.readouterr().err
    assert Path("checkpoints/small/version_0/last.ckpt").is_file()


def test_a_resumed_training_that_has_made_no_step_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture, hit: Callable[..., None]
) -> None:
    assert fit("--trainer.max_steps", 2) == 0
    capsys.readouterr()
    hit(TesseraModule, "on_train_start", signal.SIGHUP)
    assert fit("--ckpt_path", "last") == 129
    told = capsys.readouterr().err
    assert told.startswith("tessera: stopped by SIGHUP before the first step; resume: tessera fit ")
    assert told.endswith(" --ckpt_path checkpoints/small/version_0/last.ckpt\n")


def test_a_training_without_checkpoints_says_that_nothing_was_saved(
    folder: Path, capsys: pytest.CaptureFixture, hit: Callable[..., None]
) -> None:
    hit(TesseraModule, "validation_step", signal.SIGTERM)
    assert fit("--trainer.enable_checkpointing", "false") == 143
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "tessera: stopped by SIGTERM at step 10; nothing was saved."


def test_a_training_in_its_last_step_is_finished(
    folder: Path, capsys: pytest.CaptureFixture, hit: Callable[..., None]
) -> None:
    hit(TesseraModule, "on_train_end", signal.SIGTERM)
    assert fit("--trainer.max_steps", 2) == 0
    assert "resume: " in capsys.readouterr().out


def test_a_command_without_lightning_is_ended(
    capsys: pytest.CaptureFixture, hit: Callable[..., None]
) -> None:
    hit(doctor, "look", signal.SIGTERM)
    assert tessera("doctor") == 143
    assert capsys.readouterr() == ("", "tessera: stopped by SIGTERM.\n")


def test_lightning_leaves_sigterm_alone_and_still_requeues_a_job_of_slurm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    slurm = {"SLURM_NTASKS": 1, "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": 1, "SLURM_PROCID": 0}
    slurm |= {"SLURM_LOCALID": 0, "SLURM_NODEID": 0}
    for name, value in slurm.items():
        monkeypatch.setenv(name, str(value))
    handlers: list[Any] = []

    def look(self: TesseraModule) -> None:
        handlers.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGUSR1)))

    monkeypatch.setattr(TesseraModule, "on_train_start", look)
    assert fit("--trainer.max_steps", 1) == 0
    of_the_command, of_lightning = handlers
    assert isinstance(of_the_command.__self__, StopSignals)
    assert "slurm" in str(of_lightning.signal_handlers)


def held(repository: Path, *sent: tuple[int, float]) -> tuple[int, str]:
    """The exit code and the output of a process that holds signals, sent each after a while."""
    program = [sys.executable, "-c", HOLDING]
    process = subprocess.Popen(program, cwd=repository, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        for number, after_s in sent:
            time.sleep(after_s)
            process.send_signal(number)
        said = process.stdout.read()
    return process.wait(), said


def test_the_second_signal_ends_the_process_at_once(repository: Path) -> None:
    sent = (signal.SIGTERM, 0), (signal.SIGINT, 0.3)
    assert held(repository, *sent) == (-signal.SIGINT, "15\n")


def test_a_signal_that_is_sent_twice_at_once_is_one(repository: Path) -> None:
    sent = (signal.SIGHUP, 0), (signal.SIGHUP, 0.01), (signal.SIGTERM, 0)
    assert held(repository, *sent) == (0, "1\n")


def wait_a_while() -> None:
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        time.sleep(0.001)


def test_a_signal_that_is_swallowed_comes_again() -> None:
    class Dropping:
        def __del__(self) -> None:
            kill(signal.SIGTERM)

    with pytest.raises(Stopped, match="stopped by SIGTERM"), StopSignals():
        Dropping()
        wait_a_while()
    with pytest.raises(Stopped, match="stopped by SIGINT"), StopSignals():
        with contextlib.suppress(BaseException):
            kill(signal.SIGINT)
        wait_a_while()


def test_a_signal_waits_until_a_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.3)\n"
    (tmp_path / "half_made.py").write_text(f"{source}done = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stopped), StopSignals():
        importlib.import_module("half_made")
        wait_a_while()
    assert sys.modules.pop("half_made").done


def test_a_signal_that_is_on_its_way_does_not_come_again() -> None:
    tidied: list[bool] = []
    with pytest.raises(Stopped), StopSignals():
        try:
            kill(signal.SIGTERM)
        finally:
            wait_a_while()
            tidied.append(True)
    assert tidied


def test_a_signal_that_somebody_swallows_still_decides_about_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def swallow() -> list[doctor.Line]:
        with contextlib.suppress(BaseException):
            kill(signal.SIGINT)
        return [doctor.Line("python", "3")]

    monkeypatch.setattr(doctor, "look", swallow)
    assert tessera("doctor") == 130
    assert capsys.readouterr().err == "tessera: stopped by SIGINT.\n"


def test_nohup_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            kill(signal.SIGHUP)
        assert signals.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_runs_outside_the_main_thread(capsys: pytest.CaptureFixture) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]


# By trying.

ENDLESS = """
trainer: {max_steps: 1000000, val_check_interval: 100, log_every_n_steps: 10}
data: {board_size: 3, max_moves: 12, batch_size: 4, context: 12, games_per_chunk: 32,
  windows_per_game: 1, val_batches: 1, test_batches: 1}
model: {d_model: 8, d_state: 4, warmup_steps: 3, decay_steps: 20}
cpu_threads: 1
"""
TRIES = 15
LONG = {
    "fit": "--config endless.yaml",
    "validate": "--ckpt_path model.ckpt --data.val_batches 1000000",
    "test": "--ckpt_path model.ckpt --data.test_batches 1000000",
    "predict": "--ckpt_path model.ckpt --games many.txt",
    "check": "--device cpu",
    "bench": "engine --board_size 3 --batch_size 6 --seconds 1000",
    "doctor": "",
}
# Seconds of a command's work that the tries are spread over, after it has taken the signals over.
SPAN_S = {"check": 12.0, "bench": 6.0, "doctor": 1.0}


def listens(process: subprocess.Popen[str]) -> bool:
    """Whether the process catches SIGTERM, as Linux tells."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def struck(
    command: str, number: int, delay_s: float, is_begun: Callable[[], bool], repository: Path
) -> str:
    """How a command took a signal; empty if it did what it should."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tessera", command, *LONG[command].split()],
        env={**os.environ, "PYTHONPATH": python_path(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: listens(process))
    wait_until(is_begun)
    time.sleep(delay_s)
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "does not end"
    ours = [line for line in said.splitlines() if line.startswith("tessera:")]
    begins = f"tessera: stopped by {signal.Signals(number).name}"
    is_well = process.returncode == 128 + number and len(ours) == 1 and ours[0].startswith(begins)
    is_quiet = "Traceback" not in said and (
        command in ("fit", "check", "bench") or said.strip() in ours
    )
    return "" if is_well and is_quiet else f"{process.returncode}: {said[-6000:]}"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_signals_at_many_moments(folder: Path, repository: Path) -> None:
    Path("endless.yaml").write_text(ENDLESS)
    Path("many.txt").write_text("A1 B2 C3\n" * 100_000)
    assert fit("--trainer.max_steps", 1) == 0
    os.rename("checkpoints/small/version_0/last.ckpt", "model.ckpt")
    config = Path("lightning_logs/endless")

    def strike(command: str, number: int, delays_s: list[float], from_config: bool) -> None:
        faults = []
        for delay_s in delays_s:
            shutil.rmtree(config, ignore_errors=True)
            begun = (lambda: any(config.rglob("config.yaml"))) if from_config else (lambda: True)
            faults.append(struck(command, number, delay_s, begun, repository))
        good = faults.count("")
        moment = "after config.yaml" if from_config else "after the start"
        span = f"{delays_s[0]:.2f} to {delays_s[-1]:.2f} s {moment}"
        name = signal.Signals(number).name
        print(f"{command:8} {name:7} {span}: {good} of {len(faults)}", flush=True)
        for fault in filter(None, faults):
            print(f"    {fault}", flush=True)
            wrong.append(fault)

    wrong: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        strike("fit", number, [0.01 * (1 + i) for i in range(TRIES)], True)
        for command in LONG:
            span_s = SPAN_S.get(command, 5.0)
            strike(command, number, [span_s * i / TRIES for i in range(TRIES)], False)
    assert not wrong, "\n".join(wrong)
