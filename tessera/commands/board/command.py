"""``tessera board``: a page in the browser, with a model's map over a board to play on."""

from __future__ import annotations

import argparse
import os
import socket
import threading
import webbrowser
from collections.abc import Sequence

from tessera.commands.arguments import (
    WHICH_MODEL,
    OneLineParser,
    add_model_options,
    find_device,
)
from tessera.commands.board.port import bound_socket
from tessera.commands.console import waiting_for
from tessera.commands.ending import say, say_which
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.commands.quiet import quieten
from tessera.setting_errors import or_none, problems_of, whole

_ALLOWED = {"port": or_none(whole(1, 65535)), "threads": whole(1, 1024)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera board`` with these arguments (those of the process if None).

    Returns:
        2 for a checkpoint or a port that cannot be used, with a line that says why; otherwise it
        goes on until a signal ends it.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    problems = [f"--{problem}" for problem in problems_of(arguments, _ALLOWED)]
    if not arguments.ckpt_path:
        problems.append("--ckpt_path must name the model, or be last; got none.")
    if not problems:
        waiting_for("loading torch and the model")
    device = find_device(arguments, parser, problems)
    try:
        bound = bound_socket(arguments.port or 0)
    except OSError as error:
        return say(one_line(str(error)), 2)
    with bound:
        return _serve(arguments, str(device), bound)


def _serve(arguments: argparse.Namespace, device: str, bound: socket.socket) -> int:
    quieten()
    load_metrics_lightly()
    import torch

    from tessera.commands.board.answers import Answers
    from tessera.commands.board.server import Server
    from tessera.companion import load
    from tessera.setting_errors import SettingError
    from tessera.training.checkpoint_file import CheckpointError
    from tessera.training.run_folder import find_checkpoint, name_of_model

    try:
        path = find_checkpoint(arguments.ckpt_path, arguments.run_name)
        companion = load(path, device, arguments.board_size, arguments.own)
    except (CheckpointError, SettingError) as error:
        return say("\n".join(map(one_line, str(error).splitlines())), 2)
    say_which(arguments.ckpt_path, path)
    torch.set_num_threads(arguments.threads)
    server = Server(Answers(companion, name_of_model(path)), bound)
    try:
        print(f"board: {server.address}", flush=True)
        print("ends:  with Ctrl-C", flush=True)
        if arguments.open and _has_screen():
            # Some browsers are waited for until they end.
            threading.Thread(target=webbrowser.open, args=[server.address], daemon=True).start()
        threading.Event().wait()
    finally:
        server.close()
    return 0


def _has_screen() -> bool:
    """Whether a browser would be a window and not take the terminal."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera board", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--ckpt_path", metavar="FILE", required=True, help=WHICH_MODEL)
    add("--run_name", default="quickstart", help="whose newest run that is (default: quickstart)")
    add_model_options(parser)
    port = "of 127.0.0.1, where nobody but this machine's users gets to (default: a free one)"
    add("--port", type=int, metavar="N", help=port)
    opened = "open the page in the browser, where there is a screen (default: open)"
    add("--open", action=argparse.BooleanOptionalAction, default=True, help=opened)
    threads = "CPU threads; more than one seldom help a single game (default: 1)"
    add("--threads", type=int, default=1, help=threads)
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    parser.set_defaults(json=None)
    return parser
