"""``tessera gtp`` as a process: what it reads and writes, and how it ends."""

from __future__ import annotations

import gc
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tessera.commands import gtp
from tessera.commands.gtp import Lines, serve
from tests.play.conftest import Table, new_gtp, new_session
from tests.runs import fit, python_path, tessera

__all__ = ["new_gtp", "new_session"]

LAST = "checkpoints/small/version_0/last.ckpt"
BOARD = (
    *("--model.features", "board", "--model.head", "points", "--data.context", "null"),
    *("--model.board.channels", 4, "--model.board.depth", 1),
    *("--model.outcome", "win_and_score", "--trainer.max_steps", 1),
)


def started(repository: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, whose locale is as poor as can be."""
    environment = {**os.environ, "PYTHONPATH": python_path(repository), "LC_ALL": "C"}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-W", "ignore", "-m", "tessera", "gtp", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def answer(process: subprocess.Popen[bytes], line: str) -> str:
    """The answer to one line, read as far as the empty line that ends it."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
    found = b""
    while not found.endswith(b"\n\n"):
        text = process.stdout.readline()
        assert text, "the process has ended"
        found += text
    return found.decode()[:-2]


def test_a_program_plays_with_the_process_and_asks_for_the_map(
    folder: Path, repository: Path
) -> None:
    assert fit(*BOARD) == 0
    asked = ("--ckpt_path", "last", "--run_name", "small", "--playouts", "10")
    with started(repository, *asked) as process:
        assert process.stdin is not None and process.stdout is not None
        assert answer(process, "1 name\r") == "=1 Tessera"
        assert "whiteOwnership" in answer(process, "kata-raw-nn 0")
        assert answer(process, "# é\n\nboardsize 4") == (
            "? unacceptable size: the model plays on 3×3 only"
        )
        assert answer(process, "2 play b B2") == "=2"
        # An analysis goes on until the next line, whatever that is.
        for ending, following in (("", None), ("3 name", "=3 Tessera\n")):
            process.stdin.write(b"kata-analyze w 1\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"=\n"
            told = {process.stdout.readline() for _ in range(3)}
            assert len(told) == 1 and told.pop().startswith(b"info move ")
            process.stdin.write(ending.encode() + b"\n")
            process.stdin.flush()
            while (line := process.stdout.readline()) != b"\n":
                assert line.startswith(b"info move ")
            if following is not None:
                assert process.stdout.readline().decode() == following
                assert process.stdout.readline() == b"\n"
        assert answer(process, "genmove w")[:2] == "= "
        assert answer(process, "quit") == "="
        assert process.wait(30) == 0
        assert process.stdout.read() == b""
        assert process.stderr is not None and b"tessera: last is" in process.stderr.read()


def test_the_end_of_the_file_ends_it_in_the_middle_of_an_analysis_too(
    folder: Path, repository: Path
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    with started(repository, "--ckpt_path", LAST) as process:
        output, errors = process.communicate(b"version\r\nlz-analyze 50", timeout=60)
    assert process.returncode == 0 and errors == b""
    version, analysis, end = output.split(b"\n\n")
    assert version.startswith(b"= ") and b"info move" in analysis and end == b""


def test_who_types_is_told_what(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ours, its = pty.openpty()
    os.write(ours, b"name\nquit\n")
    command = [sys.executable, "-W", "ignore", "-m", "tessera", "gtp", "--ckpt_path", "player_9x9"]
    environment = {**os.environ, "PYTHONPATH": python_path(repository)}
    assert subprocess.run(command, stdin=its, env=environment, check=False).returncode == 0
    os.close(ours)
    os.close(its)
    said = capfd.readouterr()
    assert said.out == "= Tessera\n\n=\n\n"
    assert said.err == (
        "tessera: type commands of the Go Text Protocol; list_commands names them, quit ends.\n"
    )


def test_a_signal_ends_it_with_a_line(folder: Path, repository: Path) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    with started(repository, "--ckpt_path", LAST) as process:
        assert answer(process, "protocol_version") == "= 2"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert (output, errors) == (b"", b"tessera: stopped by SIGTERM.\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "the following arguments are required: --ckpt_path"),
        ("--ckpt_path=", "--ckpt_path must name the model, or be last; got none."),
        ("--ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
        ("--ckpt_path small.yaml", "small.yaml is torn or no checkpoint."),
        ("--ckpt_path last", "there is no checkpoints/quickstart/version_*/last.ckpt"),
        ("--ckpt_path last --run_name a/b", "run_name must be letters"),
        (f"--ckpt_path {LAST} --run_name a/b", "run_name must be letters"),
        (f"--ckpt_path {LAST} --temperature=-1", "--temperature must be 0 to 1000, got -1.0."),
        (f"--ckpt_path {LAST} --temperature nan", "--temperature must be 0 to 1000, got nan."),
        (f"--ckpt_path {LAST} --resign_below 2", "--resign_below must be 0 to 1, got 2.0."),
        (f"--ckpt_path {LAST} --resign_below 0.1", "--resign_below needs a model with an outcome"),
        (f"--ckpt_path {LAST} --playouts 1", "--playouts must be 0, or 2 to 1000000, got 1."),
        (f"--ckpt_path {LAST} --threads 0", "--threads must be at least 1, got 0."),
        (f"--ckpt_path {LAST} --seed=-1", "--seed must be at least 0, got -1."),
        (f"--ckpt_path {LAST} --device tpu", "--device must be auto, cpu or cuda, got tpu."),
        (f"--ckpt_path {LAST} --komi 3", "unrecognized arguments: --komi 3"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    trained: None, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    assert tessera("gtp", *options.split()) == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.count("\n") == 1 and said in errors


@pytest.fixture
def trained(folder: Path) -> None:
    """A model without an outcome."""
    assert fit("--trainer.max_steps", 1) == 0


# Lines.


@pytest.fixture
def pipe() -> Iterator[tuple[Lines, IO[bytes]]]:
    """Lines, and where they are written to."""
    source, target = os.pipe()
    with open(target, "wb", buffering=0) as file:
        yield Lines(source), file
    os.close(source)


def test_lines_are_put_together_and_taken_apart(pipe: tuple[Lines, IO[bytes]]) -> None:
    lines, file = pipe
    for part in (b"na", b"me\n\n1 x\r\n\xff\xc3", b"\xa9\nend"):
        file.write(part)
    assert [lines.next() for _ in range(4)] == ["name", "", "1 x\r", "\ufffdé"]
    with pytest.raises(TimeoutError):
        lines.next(0.01)
    with pytest.raises(TimeoutError):
        lines.next(0)
    file.close()
    assert [lines.next(), lines.next(), lines.next(1)] == ["end", None, None]


def test_a_long_line_is_read_at_once(pipe: tuple[Lines, IO[bytes]]) -> None:
    lines, file = pipe
    long = b"x" * 5_000_000
    writing = threading.Thread(target=lambda: [file.write(long + b"\nname\n"), file.close()])
    writing.start()
    start = time.monotonic()
    line = lines.next()
    assert line is not None and len(line) == len(long) and lines.next() == "name"
    assert time.monotonic() - start < 20
    writing.join()


def test_the_loop_answers_all_lines_and_nothing_after_quit(
    pipe: tuple[Lines, IO[bytes]], new_gtp: Callable[..., Table]
) -> None:
    lines, file = pipe
    file.write(b"name\n# nothing\n\nlz-analyze b 100 maxmoves 1\n2 dance\n3 quit\n4 name\n")
    written: list[str] = []
    serve(new_gtp("moves", 5).gtp, lines, written.append)
    text = "".join(written)
    first, analysis, failed, last, rest = text.split("\n\n")
    assert (first, failed, last, rest) == ("= Tessera", "?2 unknown command", "=3", "")
    assert analysis.startswith("=\ninfo move ")


def test_what_is_loaded_is_not_looked_through_for_garbage_between_moves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit(*BOARD) == 0
    frozen: list[int] = []
    monkeypatch.setattr(gtp, "serve", lambda *_: frozen.append(gc.get_freeze_count()))
    assert tessera("gtp", "--ckpt_path", LAST, "--device", "cpu") == 0
    assert frozen[0] > 100_000 and gc.get_freeze_count() < 100_000
