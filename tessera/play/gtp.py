"""The Go Text Protocol, version 2: a line of text in, an answer out, and a game in between.

Nothing is read or written here but an SGF file that is asked for; ``tessera.commands.gtp`` is the
process.

Source: Gunnar Farnebäck, "Specification of the Go Text Protocol, version 2, draft 2".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.go import IllegalMoveError
from tessera.play import map_text
from tessera.play.analysis_request import COLOURS, AnalysisRequest
from tessera.play.ending import board_text
from tessera.play.gtp_game import WHITE, GameMark, GtpError, GtpGame
from tessera.play.session import Outlook
from tessera.vocabulary import Vocabulary

# Control characters are left out, but for the tab, which is a blank.
_CLEANED = {**dict.fromkeys([*range(32), 127]), 9: " "}
_MOST_KOMI = 1e6
SET_UP = "a position that was set up: the model is not told what was played before"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is written for one line.

    Attributes:
        text: to be written at once.
        repeated: to be written again and again, until the next line arrives.
        interval_s: how often that is, in seconds; None for an answer that ends at once.
        is_last: whether the controller wants no more.
    """

    text: str
    repeated: str = ""
    interval_s: float | None = None
    is_last: bool = False

    @property
    def end(self) -> str:
        """What ends the answer, once nothing is repeated any more."""
        return "" if self.interval_s is None else "\n"


class Gtp:
    """Answers the protocol's commands. One that fails changes nothing.

    Args:
        game: that the commands are about.
        version: of the program.
    """

    def __init__(self, game: GtpGame, version: str = "") -> None:
        self.game, self.session, self.version = game, game.session, version
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "protocol_version": lambda words: "2",
            "name": lambda words: "Tessera",
            "version": lambda words: self.version,
            "known_command": self._known_command,
            "list_commands": lambda words: "\n".join(self.commands),
            "quit": lambda words: "",
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "komi": self._komi,
            "play": self._play,
            "genmove": lambda words: game.move_of_model(self._colour(words)),
            "reg_genmove": self._reg_genmove,
            "undo": self._undo,
            "showboard": self._showboard,
            "fixed_handicap": self._fixed_handicap,
            "place_free_handicap": self._place_free_handicap,
            "set_free_handicap": self._set_free_handicap,
            "time_settings": lambda words: self._times(words, 3),
            "time_left": self._time_left,
            "final_score": lambda words: game.ending().score(game.komi),
            "final_status_list": self._final_status_list,
            "loadsgf": self._loadsgf,
            "printsgf": self._printsgf,
            "heatmap": lambda words: "\n" + self._map(map_text.heat_map),
            "kata-raw-nn": self._raw_network,
            "gogui-analyze_commands": self._gogui_commands,
            "tessera-map": lambda words: self._map(map_text.gogui_board),
            "tessera-map_percent": lambda words: self._map(map_text.gogui_graphics),
            "tessera-ownership": self._owners,
        }
        # Whether they write as KataGo does, and whether a move is played.
        self._analyses = {
            "lz-analyze": (False, False),
            "analyze": (False, False),
            "kata-analyze": (True, False),
            "lz-genmove_analyze": (False, True),
            "genmove_analyze": (False, True),
            "kata-genmove_analyze": (True, True),
        }

    @property
    def commands(self) -> list[str]:
        """Their names."""
        return [*self._commands, *self._analyses]

    def answer(self, line: str) -> Answer | None:
        """What is answered to a line; None to an empty one and to a remark."""
        words = line.translate(_CLEANED).partition("#")[0].split()
        if not words:
            return None
        number = words.pop(0) if re.fullmatch(r"[0-9]+", words[0]) else ""
        before = self.game.mark()
        try:
            return self._run(number, words[0] if words else "", words[1:])
        except IllegalMoveError as error:
            return self._failed(number, f"illegal move: {error}", before)
        except ValueError as error:
            return self._failed(number, str(error), before)

    def _run(self, number: str, name: str, words: list[str]) -> Answer:
        if name in self._analyses:
            is_kata, plays = self._analyses[name]
            return self._analyse(number, words, is_kata, plays)
        if name not in self._commands:
            raise GtpError("unknown command")
        said = self._commands[name](words)
        return Answer(f"={number} {said}".rstrip() + "\n\n", is_last=name == "quit")

    def _failed(self, number: str, message: str, before: GameMark) -> Answer:
        self.game.go_back(before)
        said = "".join(c if c.isprintable() else " " for c in message)
        return Answer(f"?{number} {said}\n\n")

    # What a command is given.

    def _colour(self, words: Sequence[str]) -> int:
        colour = COLOURS.get(words[0].lower()) if words else None
        if colour is None:
            raise GtpError("invalid color: it must be black or white")
        return colour

    def _vertex(self, word: str) -> int:
        try:
            return self.session.vocabulary.token(word[:20])
        except ValueError as error:
            raise GtpError(f"invalid coordinate: {error}") from None

    def _whole(self, words: Sequence[str], name: str) -> int:
        if not words or not re.fullmatch(r"-?[0-9]{1,9}", words[0]):
            raise GtpError(f"{name} not an integer")
        return int(words[0])

    # Administration.

    def _known_command(self, words: list[str]) -> str:
        return "true" if words and words[0] in self.commands else "false"

    def _boardsize(self, words: list[str]) -> str:
        size = self.session.board_size
        if (wanted := self._whole(words, "boardsize")) != size:
            hint = f"; start it with --board_size {wanted}" if self.session.can_be(wanted) else ""
            raise GtpError(f"unacceptable size: the model plays on {size}×{size} only{hint}")
        return self._clear_board([])

    def _clear_board(self, words: list[str]) -> str:
        self.game.clear()
        return ""

    def _komi(self, words: list[str]) -> str:
        try:
            komi = float(words[0])
        except (IndexError, ValueError):
            raise GtpError("komi not a float") from None
        if not abs(komi) <= _MOST_KOMI:
            raise GtpError(f"komi must be -{_MOST_KOMI:g} to {_MOST_KOMI:g}")
        self.game.komi = komi
        return ""

    def _times(self, words: list[str], count: int) -> str:
        """Times are looked at and not kept: a move takes one step of the model."""
        for at in range(count):
            if self._whole(words[at:], "time") < 0:
                raise GtpError("time must not be negative")
        return ""

    def _time_left(self, words: list[str]) -> str:
        self._colour(words)
        return self._times(words[1:], 2)

    # Moves.

    def _play(self, words: list[str]) -> str:
        colour = self._colour(words)
        if len(words) < 2:
            raise GtpError("invalid coordinate: there is none")
        self.game.play(colour, self._vertex(words[1]))
        return ""

    def _undo(self, words: list[str]) -> str:
        self.game.undo()
        return ""

    def _reg_genmove(self, words: list[str]) -> str:
        outlook = self.game.outlook_of(self._colour(words))
        return self.session.vocabulary.vertex(int(outlook.probabilities.argmax()))

    def _fixed_handicap(self, words: list[str]) -> str:
        return self._names(self.game.fixed_handicap(self._whole(words, "number of stones")))

    def _place_free_handicap(self, words: list[str]) -> str:
        return self._names(self.game.free_handicap(self._whole(words, "number of stones")))

    def _set_free_handicap(self, words: list[str]) -> str:
        points, vocabulary = [self._vertex(word) for word in words], self.session.vocabulary
        self.game.check_is_empty()
        if len(set(points)) < len(points) or vocabulary.pass_token in points:
            raise GtpError("bad vertex list: each must be a point, and stand there once")
        if not 2 <= len(points) < vocabulary.num_points:
            raise GtpError("bad vertex list: it must be of two points or more, and not of all")
        self.game.set_handicap(points)
        return ""

    def _names(self, points: list[int]) -> str:
        return " ".join(map(self.session.vocabulary.vertex, points))

    # The board, its end, a file.

    def _showboard(self, words: list[str]) -> str:
        session = self.session
        black, white = session.engine.captured[0].tolist()
        who = "White (O)" if session.turn == WHITE else "Black (X)"
        taken = f"captured by black {black}, by white {white}"
        about = f"{who} to move, komi {self.game.komi:g}, {taken}"
        about += "" if session.has_history else f"; {SET_UP}"
        return "\n" + "\n".join([*board_text(session), about])

    def _final_status_list(self, words: list[str]) -> str:
        if not words or words[0] not in ("alive", "dead", "seki"):
            raise GtpError("invalid status: it must be alive, dead or seki")
        return "\n".join(map(self._names, self.game.ending().chains(words[0])))

    def _loadsgf(self, words: list[str]) -> str:
        if not words:
            raise GtpError("cannot load file: there is no name")
        has_number = len(words) > 1 and re.fullmatch(r"[0-9]{1,9}", words[-1])
        # The position before that move, the first of which is 1.
        plies = max(1, int(words.pop())) - 1 if has_number else None
        self.game.load(" ".join(words), plies)
        colour = "white" if self.session.turn == WHITE else "black"
        return colour if self.session.has_history else f"{colour}, {SET_UP}"

    def _printsgf(self, words: list[str]) -> str:
        if not words:
            return self.game.sgf().decode().rstrip()
        self.game.save(" ".join(words))
        return ""

    # The map.

    def _map(self, lines_of: Callable[[Outlook, Vocabulary], list[str]]) -> str:
        return "\n".join(lines_of(self.game.told().outlook, self.session.vocabulary))

    def _gogui_commands(self, words: list[str]) -> str:
        offered = map_text.GOGUI_COMMANDS
        is_told = {"tessera-ownership": self.game.tells_ownership}
        return "\n".join(offered[name] for name in offered if is_told.get(name, True))

    def _owners(self, words: list[str]) -> str:
        ownership, is_white = self.game.told().ownership, self.session.turn == WHITE
        if ownership is None:
            raise GtpError("the model does not say whose the points will be: --playouts does")
        return "\n".join(map_text.gogui_owners(ownership, is_white, self.session.vocabulary))

    def _raw_network(self, words: list[str]) -> str:
        told, is_white = self.game.told(), self.session.turn == WHITE
        of_board = (self.session.vocabulary, is_white, told.ownership)
        return "\n".join(map_text.raw_network(told.outlook, *of_board))

    def _analyse(self, number: str, words: list[str], is_kata: bool, plays: bool) -> Answer:
        request = AnalysisRequest.of(words, self.session.turn, self.session.vocabulary)
        told = self.game.told(request.colour)
        line = request.line(told.outlook, is_kata, told.ownership)
        if plays:
            move = self.game.move_of_model(request.colour, request.tokens())
            return Answer(f"={number}\n{line}play {move}\n\n")
        return Answer(f"={number}\n{line}", line, request.interval_s)
