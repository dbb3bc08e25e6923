"""A position with its map as an SGF file: letters on the likeliest points, percentages beside."""

from __future__ import annotations

from collections.abc import Iterable

from sgfmill import sgf

from tessera.go import Rules
from tessera.play.map import CLEAR, PositionMap
from tessera.play.sgf import sgf_document, sgf_point


def write_sgf_map(position: PositionMap, rules: Rules) -> bytes:
    """The moves of the position, or its stones if it was set up, and in the last node the map.

    Args:
        position: the map; KM and RU are those of ``rules``.
        rules: the model's.
    """
    size = position.board_size
    document = sgf_document(size, rules, position.moves or [])
    document.get_root().set("GN", "map of possibilities")
    document.get_root().set("AP", ("tessera", "map"))
    node = document.get_last_node()
    if position.moves is None:
        stones = enumerate(position.stones.flatten().tolist())
        points = [(sgf_point(point, size), stone) for point, stone in stones if stone]
        node.set_setup_stones(
            [point for point, stone in points if stone > 0],
            [point for point, stone in points if stone < 0],
        )
        node.set("PL", position.to_play[0])
    tell_map(node, position)
    content: bytes = document.serialise()
    return content


def write_sgf_maps(document: sgf.Sgf_game, maps: Iterable[PositionMap]) -> bytes:
    """A game with the map of each position in its node, as far as there are maps.

    Args:
        document: the game.
        maps: of its positions, from the first on.
    """
    for node, position in zip(document.get_main_sequence(), maps, strict=False):
        tell_map(node, position)
    content: bytes = document.serialise()
    return content


def tell_map(node: sgf.Tree_node, position: PositionMap) -> None:
    """Write a map into the node of its position: letters on the board, percentages beside it.

    Points that the model gives to a player, empty ones and the other's stones, are his territory
    (TB and TW), which editors mark.
    """
    likeliest, size = position.likeliest(), position.board_size
    if likeliest:
        labels = [(sgf_point(point, size), letter) for letter, (point, _) in likeliest.items()]
        node.set("LB", labels)
    for name, colour in (("TB", 1), ("TW", -1)):
        if points := _given_to(colour, position):
            node.set(name, [sgf_point(point, size) for point in points])
    node.set("C", _comment(position))


def _given_to(colour: int, position: PositionMap) -> list[int]:
    """Points where this colour has no stone, and three chances of four or more to own them."""
    if position.ownership is None:
        return []
    is_given = (colour * position.ownership >= CLEAR) & (position.stones != colour)
    points: list[int] = is_given.flatten().nonzero().flatten().tolist()
    return points


def _comment(position: PositionMap) -> str:
    vertex = position.vocabulary.vertex
    rows = [
        f"{letter}  {vertex(point)}  {100 * chance:.2f} %"
        for letter, (point, chance) in position.likeliest().items()
    ]
    rows.append(f"pass  {100 * position.pass_chance:.2f} %")
    marked = ["territory is what the model gives to a player with three chances of four or more"]
    known = [*position.facts(), *(marked if position.ownership is not None else [])]
    return "\n".join([position.title(), "", *rows, "", *known])
