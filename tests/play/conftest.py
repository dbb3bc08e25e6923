"""Small models for the games that people follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
import torch

from tessera.go import RULES, Rules
from tessera.model import GameModel, ModelSettings
from tessera.play.gtp import Gtp
from tessera.play.gtp_game import GtpGame
from tessera.play.session import Session
from tessera.vocabulary import num_tokens

KINDS: dict[str, dict[str, Any]] = {
    "moves": {},
    "blocks": {"n_layers": 3, "mixer": ["mamba", "attention", "mamba2"], "feed_forward": "dense"},
    "board": {
        "features": "board",
        "head": "points",
        "outcome": "win_and_score",
        "board": {"channels": 4, "depth": 1},
    },
    "landmarks": {
        "features": "landmarks",
        "head": "points",
        "outcome": "win_and_score",
        "points": {"decoded": 2},
    },
}
OWNERS = "owners"  # a model that says whose the points will be, beside these
_OF_OWNERS = {**KINDS["board"], "win_and_score": {"ownership_weight": 1.0}}


def new_model(kind: str = "moves", board_size: int = 5) -> GameModel:
    """A model that knows nothing yet, but says something different of every position."""
    torch.manual_seed(1)
    parts = _OF_OWNERS if kind == OWNERS else KINDS[kind]
    settings = ModelSettings(vocab_size=num_tokens(board_size), d_model=16, **parts)
    model = GameModel(settings).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("head", "outcome")):
                weight.mul_(20)
            if name.startswith("outcome.owners"):
                weight.mul_(20)  # so that whose a point is shows in signs and words
    return model


@pytest.fixture
def new_session() -> Iterator[Callable[..., Session]]:
    """Makes a session with a small model, for which one thread is faster than several."""

    def make(
        kind: str = "moves",
        board_size: int = 5,
        rules: str | Rules = "full",
        context: int | None = None,
        **changes: Any,
    ) -> Session:
        chosen = replace(RULES[rules] if isinstance(rules, str) else rules, **changes)
        return Session(new_model(kind, board_size), board_size, chosen, context, "cpu")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make
    torch.set_num_threads(threads)


class Table:
    """An engine and what is said to it."""

    def __init__(self, gtp: Gtp) -> None:
        self.gtp, self.session = gtp, gtp.session

    def say(self, line: str) -> str:
        """The whole answer to a line, which must be one."""
        answer = self.gtp.answer(line)
        assert answer is not None
        text = answer.text + answer.end
        assert text[0] in "=?" and text.endswith("\n\n") and "\n\n" not in text[:-2]
        return text[:-2]

    def ask(self, line: str) -> str:
        """What is answered to a command that succeeds."""
        text = self.say(line)
        assert text[0] == "=", text
        return text[1:].strip()

    def play(self, vertices: str, colours: str = "bw") -> None:
        """Play these moves, the colours in turn."""
        for vertex, colour in zip(vertices.split(), cycle(colours), strict=False):
            self.ask(f"play {colour} {vertex}")

    def refuse(self, line: str) -> str:
        """Why a command fails; nothing has changed then."""
        before = self.look()
        text = self.say(line)
        assert text[0] == "?" and "\n" not in text
        assert self.look() == before
        return text[1:].strip()

    def look(self) -> tuple[object, ...]:
        """All that a command may change."""
        return self.gtp.game.mark(), self.session.moves


_OF_GAME = ("temperature", "resign_below", "num_playouts")


@pytest.fixture
def new_gtp(new_session: Callable[..., Session]) -> Callable[..., Table]:
    def make(kind: str = "board", board_size: int = 9, **more: Any) -> Table:
        drawn = {name: more.pop(name) for name in _OF_GAME if name in more}
        session = new_session(kind, board_size, **more)
        return Table(Gtp(GtpGame(session, seed=3, **drawn), version="0.1"))

    return make
