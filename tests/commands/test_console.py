"""Standard streams that are closed, full or not read any more."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import torch

from tessera.commands import doctor
from tessera.commands.console import go_on_without_console, opened_console
from tests.runs import fit, python_path, tessera


@pytest.fixture
def start(folder: Path, repository: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the real command in the working folder."""
    started: list[subprocess.Popen[str]] = []

    def popen(*arguments: str, **streams: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tessera", *arguments]
        environment = {**os.environ, "PYTHONPATH": python_path(repository)}
        started.append(subprocess.Popen(command, env=environment, text=True, **streams))
        return started[-1]

    yield popen
    for process in started:
        process.kill()


@pytest.fixture
def full() -> Iterator[IO[str]]:
    """A file on a full disk."""
    with open("/dev/full", "w") as file:
        yield file


@pytest.fixture
def unread() -> Iterator[IO[str]]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as file:
        yield file


def last_step(run: str = "small") -> int:
    saved = torch.load(f"checkpoints/{run}/version_0/last.ckpt", weights_only=True)
    return int(saved["global_step"])


def test_a_training_goes_on_when_nobody_reads_it_any_more(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    pipe, all_in_one = subprocess.PIPE, subprocess.STDOUT
    process = start("fit", "--config", "small.yaml", stdout=pipe, stderr=all_in_one)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("validation at step 10: ")
    process.stdout.close()
    assert process.wait() == 0 and last_step() == 20


def test_a_prediction_ends_quietly_when_nobody_reads_it_any_more(
    start: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    Path("games.txt").write_text("A1 B2 C3\n" * 3000)
    given = ["--ckpt_path", "checkpoints/small/version_0/last.ckpt", "--games", "games.txt"]
    process = start("predict", *given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith('{"game": "games.txt:1"')
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 141


def test_a_training_on_a_full_disk_goes_on_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, full: IO[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        assert fit() == 0 and last_step() == 20
    first, *closing = capsys.readouterr().out.splitlines()
    lost = "No space left on device. Nothing is shown there from now on."
    assert first == f"tessera: standard error: {lost}" and len(closing) == 3
    monkeypatch.setattr(sys, "stdout", full)
    assert fit("--run_name", "again") == 0 and last_step("again") == 20
    assert f"tessera: standard output: {lost}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["--help", "--version", "doctor", "doctor --help", "fit --print_config"]
)
def test_what_cannot_be_written_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, full: IO[str], command: str
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    assert tessera(*command.split()) == 1
    assert capsys.readouterr().err == "tessera: standard output: No space left on device.\n"


def test_standard_output_that_is_closed_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert tessera("--version") == 1
    assert capsys.readouterr().err == "tessera: standard output: Bad file descriptor.\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_other_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, unread: IO[str], stream: str
) -> None:
    def look() -> list[doctor.Line]:
        print("looking", file=sys.stderr)
        return [doctor.Line("python", "3")]

    monkeypatch.setattr(doctor, "look", look)
    monkeypatch.setattr(sys, stream, unread)
    assert tessera("doctor") == 141
    assert capsys.readouterr().out == ""


def test_a_fault_without_standard_error_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, full: IO[str]
) -> None:
    for stream in (full, None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert tessera("fitt") == 2
        assert tessera("doctor", "--gpu") == 2
    assert capsys.readouterr().out == ""


def test_a_fault_that_nobody_reads_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch, unread: IO[str]
) -> None:
    def look() -> list[doctor.Line]:
        raise MemoryError

    monkeypatch.setattr(doctor, "look", look)
    monkeypatch.setattr(sys, "stderr", unread)
    assert tessera("doctor") == 1


def test_letters_that_the_encoding_lacks_are_written_as_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding="ascii") as ascii_only:
        monkeypatch.setattr(sys, "stdout", ascii_only)
        with opened_console():
            print("9×9, Δ \udcff")
        ascii_only.flush()
        assert written.getvalue() == rb"9\xd79, \u0394 \udcff" + b"\n"
        monkeypatch.undo()


def test_a_lost_stream_does_not_spoil_the_end_of_the_process(full: IO[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with opened_console():
            go_on_without_console()
            print("lost")
            sys.stdout.flush()
    full.flush()  # nothing waits in it
    full.write("again")
    with pytest.raises(OSError, match="No space left"):
        full.flush()  # and it is where it was
    os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_the_next_file_is_none_of_the_standard_streams(repository: Path) -> None:
    program = (
        "import sys; from tessera.commands.console import opened_console\n"
        "with opened_console(), open('/dev/null') as file:\n"
        "    print('to nowhere', file=sys.stderr); sys.stdin.read()\n"
        "    assert sys.stdin.read() == '' and file.fileno() > 2, file.fileno()"
    )
    closed = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(closed, cwd=repository, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b""
