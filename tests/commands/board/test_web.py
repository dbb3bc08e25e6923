"""The page over HTTP: who is let in, and that everything else gets a status and a sentence."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from tests.commands.board.conftest import Site

FILES = ("", "main.js", "board.css", "icon.svg")
QUESTIONS = ("map", "move", "playouts", "save", "load")


def test_the_page_and_its_files_are_served_and_may_load_nothing_from_elsewhere(
    site: Site, repository: Path
) -> None:
    folder = repository / "tessera" / "commands" / "board" / "page"
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    for file in folder.iterdir():
        name = "" if file.name == "index.html" else file.name
        status, headers, text = site.send("GET", site.path + name)
        assert status == 200 and text == file.read_text()
        assert headers["content-type"].startswith(kinds.get(file.suffix, "image/svg+xml"))
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        # Nothing is named that lies elsewhere, but for the name of SVG's elements.
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w[^\s\"']*", text)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, addresses
    status, headers, text = site.send("HEAD", site.path)
    assert (status, text) == (200, "") and int(headers["content-length"]) > 1000


def test_nobody_gets_in_without_the_token(site: Site) -> None:
    token = site.path.strip("/")
    assert len(token) >= 20
    wrong = ["", token[:-1], token + "a", token.swapcase(), "%C3%A9", f"x/{token}"]
    for name in [*FILES, "settings", "index.html", "nothing"]:
        for other in wrong:
            status, headers, text = site.send("GET", f"/{other}/{name}")
            assert status == 403 and "token" in text and token not in text
            assert "content-security-policy" in headers
    for name in QUESTIONS:
        body, kind = json.dumps({"moves": []}), {"Content-Type": "application/json"}
        assert site.send("POST", f"/{name}", body, kind)[0] == 403
        assert site.send("POST", f"/{token[:-1]}/{name}", body, kind)[0] == 403


def test_every_address_has_another_token(site: Site, new_site) -> None:
    assert new_site().path != site.path


def test_another_name_that_leads_here_is_refused(site: Site) -> None:
    names = ["evil.example", f"evil.example:{site.port}", "127.0.0.1", "127.0.0.1:1", "[::1]", ""]
    for name in [*names, f"127.0.0.1:{site.port}.evil.example", f"localhost.:{site.port}"]:
        status, _, text = site.send("GET", site.path, headers={"Host": name})
        assert status == 403 and text == f"This page is served as 127.0.0.1:{site.port} alone.\n"
    assert site.raw(f"GET {site.path} HTTP/1.0\r\n\r\n".encode()).startswith(b"HTTP/1.0 403 ")
    for name in (f"localhost:{site.port}", f"LOCALHOST:{site.port}", f"127.0.0.1:{site.port}"):
        assert site.send("GET", site.path, headers={"Host": name})[0] == 200


def test_another_page_may_not_ask(site: Site) -> None:
    for origin in ("https://evil.example", "null", f"https://127.0.0.1:{site.port}"):
        assert site.send("GET", site.path + "settings", headers={"Origin": origin})[0] == 403
    own = {"Origin": f"http://127.0.0.1:{site.port}"}
    assert site.send("GET", site.path + "settings", headers=own)[0] == 200


@pytest.mark.parametrize("name", [*FILES, "settings"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_files_are_only_read(site: Site, name: str, method: str) -> None:
    status, headers, text = site.send(method, site.path + name)
    assert status == 405 and headers["allow"] == "GET, HEAD" and text.count("\n") == 1


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_questions_are_only_posted(site: Site, name: str, method: str) -> None:
    status, headers, text = site.send(method, site.path + name)
    assert (status, headers["allow"]) == (405, "POST") and "POST" in text


def test_there_is_nothing_else(site: Site) -> None:
    names = ["nothing", "index.html", "../web.py", "%2e%2e/web.py", "..%2fweb.py", "page/main.js"]
    for name in [*names, "map/", "main.js/", "/etc/passwd", "main.js%00", "%ff", "a" * 5000]:
        status, _, text = site.send("GET", site.path + name)
        assert (status, text) == (404, "There is nothing of that name here.\n"), name


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"moves": [}', b"null", b"[]", b'"moves"', b"1"],
)
def test_what_is_no_question_is_refused(site: Site, content: bytes) -> None:
    for name in ("map", "move", "playouts", "save"):
        status, text = site.refuse(name, content)
        assert status == 400 and text.startswith("The question ")


def test_a_question_must_say_what_it_is(site: Site) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert site.refuse("map", b'{"moves": []}', kind)[0] == 415
        assert site.refuse("load", b"(;SZ[5])", kind)[0] == 415


@pytest.mark.parametrize(
    ("name", "question", "said"),
    [
        ("map", {}, "Moves must be a list of vertices, got None."),
        ("map", {"moves": "E5"}, "Moves must be a list of vertices, got 'E5'."),
        ("map", {"moves": [3]}, "Move 1: a move must be a vertex, got 3."),
        ("map", {"moves": [["A1"]]}, "Move 1: a move must be a vertex, got list."),
        ("map", {"moves": ["A1", "Z9"]}, "Move 2: vertex must be A1 to E5 or pass, got 'Z9'."),
        ("map", {"moves": ["A1", "a1"]}, "Move 2: A1 is occupied."),
        ("map", {"moves": ["A2", "C3", "B1", "A1"]}, "Move 4: A1 is suicide"),
        ("map", {"moves": ["EOS"]}, "Move 1: vertex must be"),
        ("move", {"moves": [], "temperature": -1}, "Temperature must be 0 to 1000, got -1."),
        ("move", {"moves": [], "temperature": "hot"}, "Temperature must be 0 to 1000, got 'hot'."),
        ("move", {"moves": [], "temperature": None}, "Temperature must be 0 to 1000, got None."),
        ("move", {"moves": ["A1", "A1"]}, "Move 2: A1 is occupied"),
        ("playouts", {"moves": []}, "Num_games must be a whole number, got None."),
        ("playouts", {"moves": [], "num_games": 1}, "Num_games must be at least 2, got 1."),
        ("playouts", {"moves": [], "num_games": 1e9}, "Num_games must be a whole number"),
        ("playouts", {"moves": [], "num_games": 10**9}, "Num_games must be at most 100000"),
        ("playouts", {"moves": ["A1", "A1"], "num_games": 2}, "Move 2: A1 is occupied"),
        ("save", {"tree": None}, "Tree must be a list of moves, got None."),
        ("save", {"tree": ["A1"]}, "Tree must hold pairs of a place and a vertex."),
        ("save", {"tree": [[True, "A1"]]}, "Tree must hold pairs of a place and a vertex."),
        ("save", {"tree": [[0, "A1"]]}, "Move 1 must follow one before it, got 0."),
        ("save", {"tree": [[-2, "A1"]]}, "Move 1 must follow one before it, got -2."),
        ("save", {"tree": [[-1, "A9"]]}, "Move 1: vertex must be A1 to E5 or pass, got 'A9'."),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(
    site: Site, name: str, question: object, said: str
) -> None:
    status, text = site.refuse(name, question)
    assert status == 422 and text.startswith(said), text


def test_not_a_number_is_no_temperature(site: Site) -> None:
    status, text = site.refuse("move", b'{"moves": [], "temperature": NaN}')
    assert (status, text) == (422, "Temperature must be 0 to 1000, got nan.")


def test_more_than_a_game_can_have_is_refused(site: Site) -> None:
    assert site.refuse("save", {"tree": [[-1, "A1"]] * 20_001})[0] == 422


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "No game begins in it"),
        (b"\x00\xff", "No game begins in it"),
        (b"(;SZ[5];B[aa]", "The file ends inside a game; a ) is missing."),
        (b"(;SZ[9];B[aa])", "The board must be 5×5, the model's, got 9."),
        (b"(;SZ[5];W[aa])", "Move 1: W[aa] is white's; colours must alternate from black."),
        (b"(;SZ[5];B[aa](;W[bb])(;W[zz]))", "Move 2: W[zz] is no point of a 5×5 board."),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused(site: Site, content: bytes, said: str) -> None:
    status, text = site.refuse("load", content, "application/x-go-sgf")
    assert status == 422 and text.startswith(said)


def test_nobody_can_fill_the_memory(site: Site) -> None:
    status, text = site.refuse("map", b" " * (2**20 + 1))
    assert (status, text) == (413, "It must have at most 1 MiB.")
    file = b"(;C[" + b"a" * 2**23 + b"])"
    assert site.refuse("load", file, "application/x-go-sgf")[0] == 413
    # What is announced is refused before it is sent.
    head = f"POST {site.path}map HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
    length = b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n"
    assert site.raw(head.encode() + length).startswith(b"HTTP/1.1 413 ")
    chunks = b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 2**16 + b"\r\n") * 40
    kind = b"Content-Type: application/json\r\nConnection: close\r\n"
    assert site.raw(head.encode() + kind + chunks + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    large = head.encode() + b"X: " + b"a" * 2**15 + b"\r\n\r\n"
    assert site.raw(large).startswith(b"HTTP/1.0 431 ")


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\xff\xff: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: mist\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_does_no_harm(site: Site, content: bytes) -> None:
    if content.strip():
        found = site.raw(content if b"close" in content else content + b"\r\n")
        assert re.match(rb"HTTP/1\.[01] [45]\d\d ", found) and b"Traceback" not in found, found
    assert site.ask("map", moves=[])["to_play"] == "black"


def test_whatever_is_asked_the_program_has_no_fault(site: Site) -> None:
    dice = random.Random(5)
    words = ["A1", "pass", "", "é", None, 7, -1, 1e300, True, [], {}, "x" * 9999, "\n", "\ud800"]

    def anything(depth: int = 0) -> object:
        kind = dice.randrange(3 if depth < 3 else 1)
        if kind == 0:
            return dice.choice(words)
        if kind == 1:
            return [anything(depth + 1) for _ in range(dice.randrange(4))]
        return {str(dice.choice(words)): anything(depth + 1) for _ in range(2)}

    for _ in range(150):
        names = ("moves", "temperature", "num_games", "tree")
        question = {name: anything() for name in names if dice.random() < 0.8}
        if dice.random() < 0.3:
            question["moves"] = dice.choices(["A1", "B2", "pass"], k=2)
        status, text = site.post(dice.choice(["map", "move", "playouts", "save"]), question)
        assert status in (200, 422) and (status == 200 or text.count("\n") == 1), text
    assert site.ask("map", moves=[])["moves"] == []
