"""A Go program in a process of its own, asked by the Go Text Protocol; nothing it does is trusted.

It may crash, hang, write without end or answer nonsense: each is an ``EngineFault`` that says what
it did, in time, and the process can be killed with all that it started.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence

from tessera.go.rules import Rules

_BLOCK = 2**16  # bytes read at once
_MOST_BYTES = 2**20  # of one answer
_KEPT_BYTES = 2**12  # of what it says beside, for the reason why it ended
_QUIT_S = 2.0  # for a process that was asked to end
_MOST_LETTERS = 60  # of what an engine said, in a reason


class EngineFault(Exception):
    """What an engine did that loses its game, in words."""


class GtpProcess:
    """A running engine.

    Args:
        command: as for a shell, which is not asked; only words and quotes mean anything.

    Raises:
        EngineFault: if there is no such program, or it may not be run.
    """

    def __init__(self, command: str) -> None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise EngineFault(f"no command: {error}") from None
        if not words:
            raise EngineFault("no command")
        pipe = subprocess.PIPE
        try:
            # In a session of its own: Ctrl-C is no message to it, and all of it can be killed.
            self._process = subprocess.Popen(
                words, 0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as error:
            raise EngineFault(f"{words[0]}: {error.strerror}") from None
        assert self._process.stdout is not None and self._process.stderr is not None
        self._output, self._errors = self._process.stdout.fileno(), self._process.stderr.fileno()
        for descriptor in (self._output, self._errors):
            os.set_blocking(descriptor, False)
        self._read, self._said_beside = bytearray(), bytearray()
        self._open = {self._output, self._errors}

    def ask(self, lines: Sequence[str], wait_s: float) -> list[str]:
        """The answers to commands that are sent at once, without their ``=``.

        Raises:
            EngineFault: if one of them fails, is not answered in so many seconds, or is answered
                by what is none.
        """
        until = time.monotonic() + wait_s
        self._take_in(0.0)
        if self._read.strip():
            raise EngineFault(f"said without being asked: {_shown(self._read)}")
        self._read.clear()
        self._send("".join(f"{line}\n" for line in lines))
        answers = []
        for line in lines:
            text = self._answer(line, until, wait_s)
            if text[0] == "?":
                raise EngineFault(f"refused {line}: {_shown(text[1:].strip().encode())}")
            answers.append(text[1:].strip())
        return answers

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        # Of one that has ended, the answer that does not come says more.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text.encode())

    def _answer(self, line: str, until: float, wait_s: float) -> str:
        """The next answer: from its ``=`` or ``?`` to the empty line that ends it."""
        name, searched = line.split()[0], 0
        while True:
            text = self._read.replace(b"\r", b"") if b"\r" in self._read else self._read
            start = len(text) - len(text.lstrip(b"\n"))
            if len(text) > start and text[start] not in b"=?":
                raise EngineFault(f"answered {name} with {_shown(text[start:])}")
            end = text.find(b"\n\n", max(start, searched))
            if end >= 0:
                answer, self._read = text[start:end], bytearray(text[end + 2 :])
                return answer.decode(errors="replace")
            if len(text) > _MOST_BYTES:
                raise EngineFault(f"wrote more than a MiB as the answer to {name}")
            searched = max(0, len(text) - 1)
            left = until - time.monotonic()
            if left <= 0:
                raise EngineFault(f"no answer to {name} within {wait_s:g} s")
            if self._output not in self._open:
                raise EngineFault(f"{self._end()} when asked for {name}")
            self._take_in(left)

    def _take_in(self, wait_s: float) -> None:
        """Read what is there; if nothing is, wait for it so many seconds."""
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(max(0, wait_s * 1000)):
            with contextlib.suppress(BlockingIOError):
                block = os.read(descriptor, _BLOCK)
                if not block:
                    self._open.remove(descriptor)
                elif descriptor == self._output:
                    self._read += block
                else:
                    self._said_beside = (self._said_beside + block)[-_KEPT_BYTES:]

    def _end(self) -> str:
        """How the process ended, and the last that it said about it."""
        try:
            code = self._process.wait(_QUIT_S)
        except subprocess.TimeoutExpired:
            return "closed its output"
        with contextlib.suppress(EngineFault):
            while self._errors in self._open and select.select([self._errors], [], [], 0)[0]:
                self._take_in(0.0)
        how = f"ended with exit code {code}"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else -code
            how = f"was ended by {name}"
        last = self._said_beside.strip().splitlines()[-1:]
        return f"{how} ({_shown(last[0])})" if last else how

    def kill(self) -> None:
        """End it and all that it started; on any thread, whatever another one asks it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self, asks: bool = True) -> None:
        """End it, on the thread that asks it; twice is harmless.

        Args:
            asks: whether it is asked to quit, and given a moment.
        """
        if asks and self._process.poll() is None:
            with contextlib.suppress(OSError):
                self._send("quit\n")
                assert self._process.stdin is not None
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_QUIT_S)
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()


class GtpEngine:
    """An engine that plays games of one kind: it is started, set up, and told the moves.

    Args:
        command: see ``GtpProcess``.
        board_size: n.
        rules: of which komi is told; the others are the command's to say.
        deadline_s: seconds for a move.
        start_s: seconds for the first answer, and for what sets up a game.

    Attributes:
        title: what it says that it is, ``GNU Go 3.8``, cut short; from ``start`` on.

    Raises:
        EngineFault: if there is no such program.
    """

    title: str

    def __init__(
        self, command: str, board_size: int, rules: Rules, deadline_s: float, start_s: float
    ) -> None:
        self._deadline_s, self._start_s = deadline_s, start_s
        self._setup = (f"boardsize {board_size}", "clear_board", f"komi {rules.komi:g}")
        self._process = GtpProcess(command)

    def start(self) -> None:
        """Wait until it answers.

        Raises:
            EngineFault: if it does not, or does not play on such a board.
        """
        ask, wait_s = self._process.ask, self._start_s
        (protocol,) = ask(["protocol_version"], wait_s)
        if protocol != "2":
            raise EngineFault(f"speaks protocol {_shown(protocol.encode())}, not 2")
        self.title = _title(" ".join(ask(["name", "version"], wait_s)))
        known = ask(["known_command set_random_seed", "known_command clear_cache"], wait_s)
        self._has_seed, self._has_cache = (answer.lower() == "true" for answer in known)
        ask(self._setup, wait_s)

    def begin(self, seed: int) -> None:
        """Set up a new game; an engine that can be told a seed plays it as one just started.

        Raises:
            EngineFault: see ``GtpProcess.ask``.
        """
        lines = [*self._setup]
        lines += ["clear_cache"] if self._has_cache else []
        lines += [f"set_random_seed {seed}"] if self._has_seed else []
        self._process.ask(lines, self._start_s)

    def tell(self, moves: Sequence[tuple[str, str]]) -> None:
        """Tell it moves, each a colour and a vertex.

        Raises:
            EngineFault: see ``GtpProcess.ask``.
        """
        if moves:
            self._process.ask(
                [f"play {colour} {vertex}" for colour, vertex in moves], self._start_s
            )

    def choose(self, moves: Sequence[tuple[str, str]], colour: str) -> str:
        """Tell it moves, and let it choose one: a vertex, ``pass`` or ``resign``.

        Raises:
            EngineFault: see ``GtpProcess.ask``.
        """
        lines = [f"play {played} {vertex}" for played, vertex in moves]
        return self._process.ask([*lines, f"genmove {colour}"], self._deadline_s)[-1]

    def kill(self) -> None:
        """End it at once, on any thread; see ``GtpProcess.kill``."""
        self._process.kill()

    def close(self, asks: bool = True) -> None:
        """End it, see ``GtpProcess.close``."""
        self._process.close(asks)


def _title(said: str) -> str:
    """What an engine calls itself, in one line that a terminal and an SGF file can hold."""
    line = "".join(each if each.isprintable() else " " for each in said[: 4 * _MOST_LETTERS])
    words = " ".join(line.split())
    return words[:_MOST_LETTERS] + "…" * (len(words) > _MOST_LETTERS)


def _shown(said: bytes | bytearray) -> str:
    """The beginning of what an engine said, in one line that can be printed."""
    text = bytes(said[: 4 * _MOST_LETTERS]).decode(errors="replace").strip()
    line = text.splitlines()[0] if text else ""
    return repr(line[:_MOST_LETTERS] + "…" * (len(line) > _MOST_LETTERS))
