"""``tessera board`` as a process: where it serves, what it refuses, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.runs import SMALL, fit, python_path, tessera

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
LAST = "checkpoints/small/version_0/last.ckpt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a model of 3×3 games."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit("--trainer.max_steps", 1) == 0
        yield folder


def started(folder: Path, repository: Path, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which has no screen unless the environment has one."""
    command = [sys.executable, "-W", "ignore", "-m", "tessera", "board", "--ckpt_path", LAST]
    inherited = {name: value for name, value in os.environ.items() if name not in SCREENS}
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, "PYTHONPATH": python_path(repository), **environment},
    )


def test_it_serves_this_machine_alone_until_ctrl_c_ends_it_with_a_line(
    trained: Path, repository: Path, tmp_path: Path
) -> None:
    # The browser that is opened is a script that notes the address.
    note, browser = tmp_path / "note", tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {note}.part && mv {note}.part {note}\n")
    browser.chmod(0o755)
    with started(trained, repository, BROWSER=f"{browser} %s") as process:
        assert process.stdout is not None
        name, address = process.stdout.readline().split()
        assert name == "board:" and process.stdout.readline() == "ends:  with Ctrl-C\n"
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"<title>Tessera</title>" in page.read()
        port = int(address.split(":")[2].split("/")[0])
        assert listening_at(port) == [f"0100007F:{port:04X}"]  # 127.0.0.1
        deadline = time.monotonic() + 30
        while not note.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert note.read_text().strip() == address
        # In the middle of playouts too.
        with ThreadPoolExecutor(1) as pool:
            playing = pool.submit(long_question, address)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
            assert playing.result() in (503, None)
    assert process.returncode == 130
    assert (output, errors) == ("", "tessera: stopped by SIGINT.\n")


def long_question(address: str) -> int | None:
    """The status with which playouts are answered, None if they are not."""
    parts, body = urlsplit(address), json.dumps({"moves": [], "num_games": 100_000})
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=60)
    try:
        kind = {"Content-Type": "application/json"}
        connection.request("POST", f"{parts.path}playouts", body, kind)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def listening_at(port: int) -> list[str]:
    """The addresses at which this machine listens to a port, in hexadecimal."""
    tables = [table for table in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if table.exists()]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()]
    listening = "0A"
    places = [line[1] for line in lines if line[3] == listening]
    return [place for place in places if place.endswith(f":{port:04X}")]


def test_a_taken_port_is_said_before_the_model_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert tessera("board", "--ckpt_path", "none.ckpt", "--port", port) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors == f"tessera: --port {port} cannot be used: taken by another program.\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "the following arguments are required: --ckpt_path"),
        ("--ckpt_path=", "--ckpt_path must name the model, or be last; got none."),
        ("--ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
        ("--ckpt_path small.yaml", "small.yaml is torn or no checkpoint."),
        ("--ckpt_path last", "there is no checkpoints/quickstart/version_*/last.ckpt"),
        ("--ckpt_path last --run_name a/b", "run_name must be letters"),
        (f"--ckpt_path {LAST} --port 0", "--port must be at least 1, got 0."),
        (f"--ckpt_path {LAST} --port 65536", "--port must be at most 65535, got 65536."),
        (f"--ckpt_path {LAST} --port http", "argument --port: invalid int value: 'http'"),
        (f"--ckpt_path {LAST} --threads 0", "--threads must be at least 1, got 0."),
        (f"--ckpt_path {LAST} --device tpu", "--device must be auto, cpu or cuda, got tpu."),
        (f"--ckpt_path {LAST} --board_size 9", "board_size must be 3, the model's, got 9."),
        (f"--ckpt_path {LAST} --host 0.0.0.0", "unrecognized arguments: --host 0.0.0.0"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    said: str,
) -> None:
    monkeypatch.chdir(trained)
    assert tessera("board", *options.split()) == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.count("\n") == 1 and said in errors
