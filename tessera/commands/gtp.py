"""``tessera gtp``: a model as an engine of Go programs such as Sabaki, Lizzie and GoGui."""

from __future__ import annotations

import argparse
import gc
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.commands.arguments import (
    WHICH_MODEL,
    OneLineParser,
    add_model_options,
    find_device,
)
from tessera.commands.console import waiting_for
from tessera.commands.ending import say, say_which
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.commands.packages import version_of
from tessera.commands.quiet import quieten
from tessera.setting_errors import SettingError, fits, number, or_none, problems_of, whole

if TYPE_CHECKING:
    from tessera.companion import Companion
    from tessera.play.gtp import Gtp

_ALLOWED = {
    "temperature": number("0 to 1000", lambda x: 0 <= x <= 1000),
    "resign_below": or_none(number("0 to 1", lambda x: 0 <= x <= 1)),
    "threads": whole(1, 1024),
    "seed": or_none(whole(0, 2**63 - 1)),
    "playouts": or_none(fits("0, or 2 to 1000000", lambda x: x == 0 or 2 <= x <= 1_000_000)),
}
_BLOCK = 2**16  # bytes read at once


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera gtp`` with these arguments (those of the process if None).

    Returns:
        0 once the controller has quit or closed its end; 2 for a checkpoint that cannot be used,
        with a line that says why; a wrong argument ends the process with one line and 2 as well.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    problems = [f"--{problem}" for problem in problems_of(arguments, _ALLOWED)]
    if not arguments.ckpt_path:
        problems.append("--ckpt_path must name the model, or be last; got none.")
    waiting_for("loading torch and the model")
    device = find_device(arguments, parser, problems)
    quieten()
    load_metrics_lightly()
    import torch

    from tessera.training.checkpoint_file import CheckpointError

    try:
        path, companion = _load(arguments, device)
    except (CheckpointError, SettingError) as error:
        return say("\n".join(map(one_line, str(error).splitlines())), 2)
    if arguments.resign_below is not None and companion.model.outcome is None:
        parser.error("--resign_below needs a model with an outcome, and this one has none.")
    say_which(arguments.ckpt_path, path)
    torch.set_num_threads(arguments.threads)
    waiting_for("")
    if sys.stdin is not None and sys.stdin.isatty():
        say("type commands of the Go Text Protocol; list_commands names them, quit ends.", 0)
    # Looking through all that was loaded for garbage would hold up a move for 0.2 s now and then.
    gc.freeze()
    try:
        serve(_engine(arguments, companion), Lines(0))
    finally:
        gc.unfreeze()
    return 0


def _load(arguments: argparse.Namespace, device: object) -> tuple[Path, Companion]:
    from tessera.companion import load
    from tessera.training.run_folder import find_checkpoint

    path = find_checkpoint(arguments.ckpt_path, arguments.run_name)
    return path, load(path, str(device), arguments.board_size, arguments.own)


def _engine(arguments: argparse.Namespace, companion: Companion) -> Gtp:
    from tessera.play.gtp import Gtp
    from tessera.play.gtp_game import GtpGame

    version = arguments.override_version or version_of("tessera") or "0"
    options = (arguments.temperature, arguments.resign_below, arguments.seed, arguments.playouts)
    return Gtp(GtpGame(companion.session(), *options), version)


class Lines:
    """Lines of text from a file descriptor, with a limit to how long one waits for the next.

    Not by Python's own stream, of which nobody can say whether a read would wait.

    Args:
        descriptor: to read from.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._is_open = descriptor, True
        self._bytes, self._searched = bytearray(), 0

    def next(self, wait_s: float | None = None) -> str | None:
        """The next line without its end; a last one need not have any.

        Args:
            wait_s: seconds to wait at most; None for as long as it takes.

        Returns:
            None at the end of the file.

        Raises:
            TimeoutError: if there was no line in that time.
        """
        until = None if wait_s is None else time.monotonic() + wait_s
        while True:
            end = self._bytes.find(b"\n", self._searched)
            if end >= 0 or not self._is_open:
                break
            self._searched = len(self._bytes)
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError
            block = os.read(self._descriptor, _BLOCK)
            self._bytes += block
            self._is_open = bool(block)
        if end < 0 and not self._bytes:
            return None
        end = len(self._bytes) if end < 0 else end
        line = self._bytes[:end].decode("utf-8", "replace")
        del self._bytes[: end + 1]
        self._searched = 0
        return line


def serve(engine: Gtp, lines: Lines, write: Callable[[str], None] | None = None) -> None:
    """Answer line after line, until the controller quits or closes its end.

    Args:
        engine: answers.
        lines: from the controller.
        write: to the controller; standard output, in UTF-8 and at once, if None.
    """
    write = write or _written_to_standard_output()
    line = lines.next()
    while line is not None:
        answer = engine.answer(line)
        if answer is None:
            line = lines.next()
            continue
        write(answer.text)
        if answer.is_last:
            return
        if answer.interval_s is None:
            line = lines.next()
            continue
        # Any line ends an analysis, an empty one too.
        line = _after_repeating(answer.repeated, answer.interval_s, lines, write)
        write(answer.end)


def _after_repeating(
    text: str, interval_s: float, lines: Lines, write: Callable[[str], None]
) -> str | None:
    """The next line; until it arrives the text is written again and again."""
    while True:
        try:
            return lines.next(interval_s)
        except TimeoutError:
            write(text)


def _written_to_standard_output() -> Callable[[str], None]:
    # The protocol's, whatever the locale is.
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return write


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera gtp", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--ckpt_path", metavar="FILE", required=True, help=WHICH_MODEL)
    add("--run_name", default="quickstart", help="whose newest run that is (default: quickstart)")
    add_model_options(parser)
    temperature = "genmove draws its move with the probabilities to the power of 1 over this; "
    temperature += "0 plays the likeliest (default: 0)"
    add("--temperature", type=float, default=0.0, help=temperature)
    add("--seed", type=int, help="of what is drawn (default: another one every time)")
    resign = "resign below this win probability, for models with an outcome (default: never)"
    add("--resign_below", type=float, metavar="P", help=resign)
    what = "games played on to find dead stones and the score (default: 64; 0 for none); "
    what += "if given, analyses tell of whose the points will be as well, and of who wins"
    add("--playouts", type=int, metavar="N", help=what)
    threads = "CPU threads; more than one seldom help a single game (default: 1)"
    add("--threads", type=int, default=1, help=threads)
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    version = "what to answer to version; Lizzie wants 0.17, Leela Zero's"
    add("--override_version", metavar="TEXT", help=version)
    parser.set_defaults(json=None)
    return parser
