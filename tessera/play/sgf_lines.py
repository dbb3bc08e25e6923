"""A game with its variations as SGF: a tree of moves, read and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sgfmill import sgf_grammar

from tessera.go import Rules
from tessera.play.sgf import Node, SgfGame, read_sgf, sgf_document, sgf_point
from tessera.play.sgf_setup import SetUp
from tessera.play.sgf_trees import sgf_trees

_MOST_LINES = 500  # of one game; each is read by itself
_MOST_MOVES = 20_000
_NOT_OF_THE_MOVES = ("CA", "C", "AP")  # the texts; with no charset, bytes stay what they are


@dataclass(frozen=True, slots=True)
class MoveTree:
    """Moves, each with the one before it, so that lines may go apart.

    Attributes:
        board_size: n.
        moves: the tokens, each behind the one that it follows.
        parents: for each the place of that one, -1 for a first move.
        start: the position that every first move follows; None for the empty board.
    """

    board_size: int
    moves: list[int]
    parents: list[int]
    start: SetUp | None = None

    def lines(self) -> list[list[int]]:
        """The tokens of every line from the first move to its last one."""
        followed = set(self.parents)
        return [self._line(end) for end in range(len(self.moves)) if end not in followed]

    def _line(self, end: int) -> list[int]:
        line = []
        while end >= 0:
            line.append(self.moves[end])
            end = self.parents[end]
        return line[::-1]


def read_move_tree(content: bytes) -> tuple[MoveTree, int]:
    """The first game of an SGF file with all of its variations, and how many games there are.

    Each line from the root to an end must be what ``read_sgf`` takes; a position may be set up
    before the first move, the same in all of them. Whether a move is legal is not looked at. What
    stands in two variations is one.

    Raises:
        ValueError: saying what is wrong with the file or the game.
    """
    trees = sgf_trees(content)
    if isinstance(trees[0], ValueError):
        raise trees[0]
    tree, places = MoveTree(0, [], []), dict[tuple[int, int], int]()
    for number, line in enumerate(_single_lines(trees[0])):
        if number == _MOST_LINES:
            raise ValueError(f"the game has more than {_MOST_LINES} variations.")
        game = read_sgf(line, allows_set_up=True)[0]
        if isinstance(game, ValueError):
            raise game
        start = _start_of(game)
        if number and start != tree.start:
            raise ValueError("its variations begin from different positions.")
        tree = replace(tree, board_size=game.board_size, start=start)
        at = -1
        for move in game.moves:
            if (at, move) not in places:
                places[at, move] = len(tree.moves)
                tree.parents.append(at)
                tree.moves.append(move)
            at = places[at, move]
        if len(tree.moves) > _MOST_MOVES:
            raise ValueError(f"the game has more than {_MOST_MOVES:,} moves.")
    return tree, len(trees)


def _start_of(game: SgfGame) -> SetUp | None:
    """The position that a line begins with."""
    if game.set_ups and (ply := game.set_ups[-1].ply):
        raise ValueError(
            f"move {ply + 1}: a position is set up in the middle of the game; "
            "it must stand before the first move."
        )
    return game.set_ups[-1] if game.set_ups else None


def _single_lines(tree: sgf_grammar.Coarse_game_tree) -> Iterator[bytes]:
    """Every way through a tree as a game without variations, the main line first."""
    open_ways: list[tuple[sgf_grammar.Coarse_game_tree, list[Node]]] = [(tree, [])]
    while open_ways:
        part, before = open_ways.pop()
        nodes = [*before, *part.sequence]
        open_ways += [(child, nodes) for child in reversed(part.children)]
        if not part.children:
            line = sgf_grammar.Coarse_game_tree()
            line.sequence = [
                {name: node[name] for name in node if name not in _NOT_OF_THE_MOVES}
                for node in nodes
            ]
            yield sgf_grammar.serialise_game_tree(line, wrap=None)


def write_move_tree(tree: MoveTree, rules: Rules) -> bytes:
    """A game with all of its variations, the colours in turn."""
    document, start = sgf_document(tree.board_size, rules, []), tree.start
    root = document.get_root()
    root.set("AP", ("tessera", "board"))
    if start is not None:
        stones = [stone for row in start.stones for stone in row]
        root.set_setup_stones(
            *(
                [sgf_point(p, tree.board_size) for p, s in enumerate(stones) if s == c]
                for c in (1, -1)
            )
        )
        root.set("PL", "bw"[start.turn])
        if start.handicap:
            root.set("HA", len(start.handicap))
    nodes, plies = [root], [0 if start is None else start.turn]
    for move, parent in zip(tree.moves, tree.parents, strict=True):
        node = nodes[parent + 1].new_child()
        ply = plies[parent + 1]
        point = None if move == tree.board_size**2 else sgf_point(move, tree.board_size)
        node.set_move("bw"[ply % 2], point)
        nodes.append(node)
        plies.append(ply + 1)
    content: bytes = document.serialise()
    return content


def move_tree(
    board_size: int, given: Sequence[tuple[int, int]], start: SetUp | None = None
) -> MoveTree:
    """The tree of pairs of a parent's place and a token, from a start.

    Raises:
        ValueError: if a move does not stand behind the one that it follows.
    """
    if len(given) > _MOST_MOVES:
        raise ValueError(f"a game must have at most {_MOST_MOVES:,} moves, got {len(given):,}.")
    for place, (parent, _) in enumerate(given):
        if not -1 <= parent < place:
            raise ValueError(f"move {place + 1} must follow one before it, got {parent}.")
    return MoveTree(board_size, [move for _, move in given], [parent for parent, _ in given], start)
