"""The line that says what is being waited for: on a terminal only, and never left there."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.commands.console import opened_console, waiting_for
from tests.runs import python_path, tessera
from tests.terminal import on_terminal, on_terminal_here, seen

LOADING, BUILDING = "loading torch and Lightning ...", "building the model and the trainer ..."
PLAYING = "playing the first games ..."


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What is written from now on; not a fixture, because pytest captures anew after those."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path(repository))


def test_the_next_line_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with opened_console():
        waiting_for("one thing")
        waiting_for("another")
        assert seen(terminal.getvalue()) == ["another ..."]
        print("done")
        assert seen(terminal.getvalue()) == ["done", ""]
        waiting_for("a third")
        print("fault", file=sys.stderr)
        waiting_for("a fourth")
        waiting_for("")
        waiting_for("a fifth")
    assert seen(terminal.getvalue()) == ["done", "fault", ""]


def test_a_stream_that_cannot_be_written_to_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with opened_console():
        waiting_for("one thing")
        terminal.close()
        waiting_for("another")
        print("a fault of the stream's own", file=sys.stderr)


def test_a_training_says_from_the_first_moment_what_it_waits_for(folder: Path) -> None:
    code, written = on_terminal("fit", "--config", "small.yaml")
    assert code == 0
    assert written.startswith(LOADING)
    assert written.index(LOADING) < written.index(BUILDING) < written.index(PLAYING)
    assert written.index(PLAYING) < written.index("training 0/20")
    left = "\n".join(seen(written))
    assert "..." not in left and "training 20/20" in left and "checkpoint: " in left


def test_without_a_bar_it_is_gone_when_training_begins(folder: Path) -> None:
    off = ("--trainer.enable_progress_bar", "false")
    code, written = on_terminal_here("fit", "--config", "small.yaml", *off)
    assert code == 0 and BUILDING in written and PLAYING not in written
    assert seen(written)[0].startswith("validation at") or seen(written)[0].startswith("checkpoint")


@pytest.mark.parametrize("option", ["--help", "-h", "--print_config", "--print_config=skip_null"])
def test_an_answer_that_is_no_run_is_not_announced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert tessera("fit", option) == 0
    assert len(terminal.getvalue()) > 500 and "loading torch" not in terminal.getvalue()
    assert tessera("fit", "--data.board_size", 25) == 2
    assert LOADING in terminal.getvalue()


def test_a_mistake_leaves_its_own_line_alone(folder: Path) -> None:
    code, written = on_terminal_here("fit", "--data.board_size", "25")
    assert code == 2
    assert seen(written) == ["tessera: data.board_size must be 2 to 19, got 25.", ""]


def test_another_process_of_the_run_and_a_file_get_none_of_it(folder: Path) -> None:
    code, written = on_terminal("fit", "--data.board_size", "25", environment={"LOCAL_RANK": "1"})
    assert code == 2 and "..." not in written
    command = [sys.executable, "-W", "ignore", "-m", "tessera", "fit", "--config", "small.yaml"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0 and "..." not in done.stdout + done.stderr
