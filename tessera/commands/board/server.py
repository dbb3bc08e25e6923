"""The server of the page, in threads of its own: the main thread, which gets signals, is free."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from typing import Any

from waitress import create_server, wasyncore

from tessera.commands.board.answers import Answers
from tessera.commands.board.web import Page

_THREADS = 8  # more than the questions that may take long
_SETTINGS = {
    "ident": None,  # nobody has to know
    "max_request_header_size": 2**15,
    "max_request_body_size": 2**24,
    "connection_limit": 100,
    "channel_timeout": 60,
    "channel_request_lookahead": 1,  # so that it is seen when somebody waits no more
}


class Server:
    """Serves the page until it is closed.

    Args:
        answers: to the page's questions.
        bound: where it is served.

    Attributes:
        address: of the page, with its token.
    """

    def __init__(self, answers: Answers, bound: socket.socket) -> None:
        logging.getLogger("waitress").setLevel(logging.CRITICAL)  # the terminal is the user's
        page = Page(answers, secrets.token_urlsafe(18), bound.getsockname()[1])
        self.address, self._answers = page.address, answers
        self._map: dict[int, Any] = {}
        self._server = create_server(
            page, map=self._map, sockets=[bound], threads=_THREADS, **_SETTINGS
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more; what the model is asked just now is waited for."""
        self._answers.close()
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._map))
        self._thread.join()
        self._server.task_dispatcher.shutdown()
