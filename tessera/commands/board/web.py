"""The page over HTTP: who may ask, what may be asked, and how it is refused.

The address has a token in it, so that no other user of the machine and no other page in the
browser can ask; the host is looked at because of DNS rebinding, by which another page's name may
lead here. Every refusal is a status and a sentence.
"""

from __future__ import annotations

import hmac
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from tessera.commands.board.answers import Answers, Busy
from tessera.commands.ending import machine_fault
from tessera.commands.one_line import one_line
from tessera.go import NotWanted

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_JSON, _SGF = "application/json", "application/x-go-sgf"
_MOST_QUESTION = 2**20  # bytes
_MOST_FILE = 2**23  # of an SGF file
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refusal(Exception):
    """A request that is refused, with the status and the sentence that say so."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


class Page:
    """The WSGI application.

    Args:
        answers: to the page's questions.
        token: what the address begins with.
        port: that it is served on, of 127.0.0.1.
    """

    def __init__(self, answers: Answers, token: str, port: int) -> None:
        self._answers, self._token, self._port = answers, token, port
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost"}
        folder = files("tessera.commands.board") / "page"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self._files[""] = self._files.pop("index.html")
        self._questions: dict[str, Callable[[dict[str, Any], Request], Any]] = {
            "map": lambda question, _: answers.map(question),
            "move": lambda question, _: answers.move(question),
            "playouts": self._playouts,
        }

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self._port}/{self._token}/"

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        response = self._answer(Request(environ))
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            return self._respond(request)
        except Refusal as refusal:
            return _sentence(str(refusal), refusal.status, refusal.headers)
        except Busy as busy:
            return _sentence(str(busy), 429, {"Retry-After": "5"})
        except NotWanted:
            return _sentence("nobody waits for this any more, or the program ends.", 503)
        except HTTPException as error:
            return _sentence(error.description or error.name, error.code or 400)
        except ValueError as error:
            return _sentence(" ".join(str(error).split()), 422)
        except Exception as error:
            if (fault := machine_fault(error)) is not None:
                return _sentence(fault, 500)
            traceback.print_exc(file=sys.stderr)
            kind = type(error).__name__
            return _sentence(f"a fault of the program ({kind}), which its terminal shows.", 500)

    def _respond(self, request: Request) -> Response:
        if request.headers.get("Host", "").lower() not in self._hosts:
            raise Refusal(403, f"this page is served as 127.0.0.1:{self._port} alone.")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{x}" for x in self._hosts}:
            raise Refusal(403, "another page may not ask here.")
        token, slash, name = request.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise Refusal(
                403, "the address must have the token in it that tessera board has printed."
            )
        if slash and name in self._files:
            _check_method(request, "GET", "HEAD")
            kind = _KINDS[name.rpartition(".")[2] if name else "html"]
            return Response(self._files[name], content_type=f"{kind}; charset=utf-8")
        if name == "settings":
            _check_method(request, "GET", "HEAD")
            return _json(self._answers.settings())
        if name == "load":
            _check_method(request, "POST")
            return _json(self._answers.load(_body(request, _SGF, _MOST_FILE)))
        if name == "save":
            _check_method(request, "POST")
            return Response(self._answers.save(_question(request)), content_type=_SGF)
        if name in self._questions:
            _check_method(request, "POST")
            return _json(self._questions[name](_question(request), request))
        raise Refusal(404, "there is nothing of that name here.")

    def _playouts(self, question: dict[str, Any], request: Request) -> dict[str, Any]:
        has_gone = request.environ.get("waitress.client_disconnected", lambda: False)
        return self._answers.playouts(question, lambda: not has_gone())


def _check_method(request: Request, *allowed: str) -> None:
    if request.method not in allowed:
        words = " or ".join(allowed)
        raise Refusal(405, f"the method must be {words} here.", Allow=", ".join(allowed))


def _body(request: Request, kind: str, most: int) -> bytes:
    if request.mimetype != kind:
        raise Refusal(415, f"the content's type must be {kind}.")
    request.max_content_length = most
    try:
        return request.get_data()
    except RequestEntityTooLarge:
        raise Refusal(413, f"it must have at most {most >> 20} MiB.") from None


def _question(request: Request) -> dict[str, Any]:
    content = _body(request, _JSON, _MOST_QUESTION)
    try:
        question = json.loads(content)
    except (ValueError, RecursionError):
        raise Refusal(400, "the question is no JSON.") from None
    if not isinstance(question, dict):
        raise Refusal(400, "the question must be a JSON object.")
    return question


def _json(answer: dict[str, Any]) -> Response:
    return Response(json.dumps(answer, allow_nan=False), content_type=_JSON)


def _sentence(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    text = one_line(text)
    kind = "text/plain; charset=utf-8"
    return Response(f"{text[:1].upper()}{text[1:]}\n", status, headers, content_type=kind)
