"""Games as SGF files: what other Go programs read and write.

The parser, the points and the serialiser are sgfmill's. Its ``Sgf_game`` is not used for reading:
it takes the first of several values and of several games without a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from sgfmill import sgf, sgf_grammar, sgf_properties

from tessera.go import GameRecord, Rules
from tessera.play.sgf_setup import STONES, SetUp, SetUpReader
from tessera.play.sgf_trees import sgf_trees, shown
from tessera.vocabulary import Vocabulary, check_board_size

Node: TypeAlias = dict[str, list[bytes]]

_COLOURS = {"B": "black", "W": "white"}
_MOST_KOMI = 1e6
_OF_THE_ROOT = ("GM", "SZ")


@dataclass(frozen=True, slots=True)
class SgfGame:
    """The main line of an SGF game.

    Attributes:
        board_size: n.
        moves: as tokens.
        set_ups: the positions that are set up in it, in their order; none unless it was asked for.
        komi: KM; None if the file does not say a number.
    """

    board_size: int
    moves: list[int]
    set_ups: tuple[SetUp, ...] = ()
    # It changes no move, so games that differ in it alone are the same.
    komi: float | None = field(default=None, compare=False)

    def set_up_before(self, ply: int) -> SetUp | None:
        """The last position that was set up before so many plies and one were played."""
        return next((each for each in reversed(self.set_ups) if each.ply <= ply), None)


def read_sgf(content: bytes, *, allows_set_up: bool = False) -> list[SgfGame | ValueError]:
    """The main line of every game of an SGF file, or in its place why it cannot be used.

    A game must be one of Go on a square board of 2 to 19 lines, a move a node, black first and the
    colours in turn. Whether a move is legal is not looked at; RU and everything else that changes
    neither board nor moves is not read.

    Args:
        content: the file, in any charset that contains ASCII; what it declares as CA is honoured.
        allows_set_up: whether stones may be set up (AB, AW, AE) and the turn (PL), handicap
            included; such a game is refused otherwise.
    """
    games: list[SgfGame | ValueError] = []
    for tree in sgf_trees(content):
        try:
            is_read = not isinstance(tree, ValueError)
            games.append(_main_line(tree, allows_set_up) if is_read else tree)
        except ValueError as error:
            games.append(error)
    return games


def _main_line(tree: sgf_grammar.Coarse_game_tree, allows_set_up: bool) -> SgfGame:
    nodes: list[Node] = list(sgf_grammar.main_sequence_iter(tree))
    size = _board_size(nodes[0])
    vocabulary, reader = Vocabulary(size), SetUpReader(size)
    moves: list[int] = []
    set_ups: list[SetUp] = []
    turn = 0
    for at, node in enumerate(nodes):
        ply = f"move {len(moves) + 1}"
        _check_node(node, at == 0, ply, allows_set_up)
        if allows_set_up and not node.keys().isdisjoint((*STONES, "PL")):
            after = next((name for later in nodes[at:] for name in "BW" if name in later), None)
            try:
                found = reader.read(node, moves, turn, after)
            except ValueError as error:
                shown_at = "the root" if at == 0 else ply
                text = "".join(_shown(n, node[n]) for n in (*STONES, "PL") if n in node)
                raise ValueError(f"{shown_at}: {text} {error}.") from None
            if found is not None:
                set_ups.append(found)
                turn = found.turn
        played = [(name, value) for name in _COLOURS for value in node.get(name, [])]
        if not played:
            continue
        if len(played) > 1:
            text = "".join(_shown(name, node[name]) for name in _COLOURS if name in node)
            raise ValueError(f"{ply}: a node must have one move, got {text}.")
        name, value = played[0]
        if name != "BW"[turn]:
            first = "black" if not set_ups else _COLOURS["BW"[set_ups[-1].turn]]
            raise ValueError(
                f"{ply}: {_shown(name, [value])} is {_COLOURS[name]}'s; "
                f"colours must alternate from {first}."
            )
        try:
            point = sgf_properties.interpret_go_point(value.strip(), size)
        except ValueError:
            raise ValueError(
                f"{ply}: {_shown(name, [value])} is no point of a {size}×{size} board."
            ) from None
        if point is None:
            moves.append(vocabulary.pass_token)
        else:
            row, column = point  # sgfmill counts rows from the bottom
            moves.append((size - 1 - row) * size + column)
        turn = 1 - turn
    return SgfGame(size, moves, tuple(set_ups), _komi(nodes[0]))


def _komi(root: Node) -> float | None:
    """The root's KM, None if it is no number."""
    try:
        komi = float(root["KM"][0])
    except (KeyError, ValueError):
        return None
    return komi if abs(komi) <= _MOST_KOMI else None


def _board_size(root: Node) -> int:
    """The size that the root declares, 19 if none, of a game of Go."""
    for name in _OF_THE_ROOT:
        if len(root.get(name, [])) > 1:
            raise ValueError(f"{_shown(name, root[name])} must have one value.")
    if root.get("GM", [b"1"])[0].strip() != b"1":
        raise ValueError(f"{_shown('GM', root['GM'])} is another game; Go is GM[1].")
    if "SZ" not in root:
        return 19
    size = re.fullmatch(rb"\s*([0-9]{1,9})\s*(?::\s*([0-9]{1,9})\s*)?", root["SZ"][0])
    if size is None:
        raise ValueError(f"{_shown('SZ', root['SZ'])} is no board size.")
    columns, rows = int(size[1]), int(size[2] or size[1])
    if columns != rows:
        raise ValueError(f"{_shown('SZ', root['SZ'])} is not square.")
    check_board_size("the SGF's board size", columns)
    return columns


def _check_node(node: Node, is_root: bool, ply: str, allows_set_up: bool) -> None:
    where = "the root" if is_root else ply
    for name in STONES:
        # A list may be empty, and some programs write an empty one.
        if not allows_set_up and any(value.strip() for value in node.get(name, [])):
            raise ValueError(
                f"{where}: {_shown(name, node[name])} sets up a position; "
                "a game must begin from an empty board, without handicap stones."
            )
    for name in _OF_THE_ROOT:
        if name in node and not is_root:
            raise ValueError(f"{where}: {_shown(name, node[name])} must stand in the root.")
    # sgfmill leaves the small letters out of FF[3]'s long names; here nothing else was there.
    if "" in node:
        raise ValueError(f"{where}: {_shown('', node[''])} has a name without capital letters.")


def _shown(name: str, values: list[bytes]) -> str:
    return shown(name.encode() + b"".join(b"[" + value + b"]" for value in values[:9]))


def record_document(record: GameRecord, game: int, player: str | None = None) -> sgf.Sgf_game:
    """One game of a record; whoever asked may add to it.

    Args:
        record: finished games.
        game: index into the record, 0 to G - 1.
        player: what the file calls both players; None for the record's name of them.
    """
    moves = record.moves[game, : int(record.lengths[game])].tolist()
    document = sgf_document(record.board_size, record.rules, moves)
    root = document.get_root()
    root.set("AP", ("tessera", "games"))
    for colour in ("PB", "PW"):
        root.set(colour, f"tessera {player or record.player}")
    root.set("GN", f"seed {record.seed}, game {int(record.numbers[game])}")
    root.set("RE", result_text(float(record.results[game])))
    return document


def result_text(margin: float) -> str:
    """A result as SGF has it: ``B+3.5``, ``W+10`` or ``0``."""
    # The shortest decimals that are this float32, because SGF has no exponents.
    points = np.format_float_positional(np.float32(abs(margin)), trim="-")
    return "0" if margin == 0 else f"{'B' if margin > 0 else 'W'}+{points}"


def sgf_document(
    board_size: int, rules: Rules, moves: Sequence[int], turn: int = 0
) -> sgf.Sgf_game:
    """A game from the empty board, with the rules in its root; whoever asked may add to it.

    Args:
        board_size: n.
        rules: of the game.
        moves: as tokens, the colours in turn.
        turn: whose the first one is: 0 black, 1 white.
    """
    document = sgf.Sgf_game(size=board_size)
    root = document.get_root()
    root.set("KM", rules.komi)
    single = ", only single stones are captured" if rules.capture == "single" else ""
    settled = ", pass-alive territory without its dead stones" if rules.score != "area" else ""
    suicide = "on" if rules.suicide else "off"
    root.set("RU", f"ko {rules.ko}, suicide {suicide}{single}{settled}")
    for ply, token in enumerate(moves):
        point = None if token == board_size**2 else sgf_point(token, board_size)
        document.extend_main_sequence().set_move("bw"[(turn + ply) % 2], point)
    return document


def sgf_point(token: int, board_size: int) -> tuple[int, int]:
    """A point's row and column as sgfmill counts them, rows from the bottom."""
    row, column = divmod(token, board_size)
    return board_size - 1 - row, column
