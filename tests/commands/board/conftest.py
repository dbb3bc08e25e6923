"""A page that is served, of a small model that knows nothing, and how it is asked."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from tessera.commands.board.answers import Answers
from tessera.commands.board.port import bound_socket
from tessera.commands.board.server import Server
from tessera.companion import Companion
from tessera.go import RULES
from tests.commands.board.browser import Tab, new_browser
from tests.play.conftest import new_model

NewSite = Callable[..., "Site"]


class Site:
    """A served page."""

    def __init__(self, kind: str = "board", board_size: int = 5) -> None:
        model = new_model(kind, board_size)
        self.companion = Companion(model, board_size, RULES["full"], None)
        self.answers = Answers(self.companion, "small.ckpt")
        self.bound = bound_socket(0)
        self.server = Server(self.answers, self.bound)
        self.address = self.server.address
        parts = urlsplit(self.address)
        assert parts.hostname == "127.0.0.1" and parts.port is not None
        self.port, self.path = parts.port, parts.path

    def close(self) -> None:
        if self.bound.fileno() < 0:
            return
        self.server.close()
        self.bound.close()

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of the answer; no traceback, whatever was asked."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        assert "Traceback" not in text
        return response.status, {name.lower(): value for name, value in response.getheaders()}, text

    def raw(self, content: bytes) -> bytes:
        """What comes back for these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(content)
            found = b""
            with contextlib.suppress(ConnectionResetError):  # it had read enough
                while block := connection.recv(2**16):
                    found += block
        return found

    def post(self, name: str, question: Any, kind: str = "application/json") -> tuple[int, str]:
        body = question if isinstance(question, bytes) else json.dumps(question).encode()
        status, _, text = self.send("POST", self.path + name, body, {"Content-Type": kind})
        return status, text

    def ask(self, name: str, **question: Any) -> Any:
        """The answer to a question that can be answered."""
        status, text = self.post(name, question)
        assert status == 200, text
        return json.loads(text)

    def refuse(self, name: str, question: Any, kind: str = "application/json") -> tuple[int, str]:
        """The status and the sentence of one that cannot."""
        status, text = self.post(name, question, kind)
        assert status >= 400 and text.count("\n") == 1 and text.endswith(".\n"), text
        assert text[0] == text[0].upper()
        return status, text[:-1]


@pytest.fixture(scope="module")
def new_site() -> Iterator[NewSite]:
    """Serves a page; one thread is enough for a small model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sites: list[Site] = []

    def make(*arguments: Any) -> Site:
        sites.append(Site(*arguments))
        return sites[-1]

    yield make
    for site in sites:
        site.close()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def site(new_site: NewSite) -> Site:
    return new_site()


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def driver(downloads: Path) -> Iterator[Any]:
    driver = new_browser(downloads)
    yield driver
    driver.quit()


@pytest.fixture
def tab(driver: Any, site: Site) -> Iterator[Tab]:
    """The page of a 5×5 model; at the end nothing was complained of, and nobody else was asked."""
    tab = Tab(driver, site.address)
    yield tab
    assert tab.complaints() == []
