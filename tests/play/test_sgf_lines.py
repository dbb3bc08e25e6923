"""A game with its variations as SGF."""

from __future__ import annotations

import random

import pytest

from tessera.go import RULES
from tessera.play.sgf_lines import move_tree, read_move_tree, write_move_tree


@pytest.mark.parametrize("seed", range(10))
def test_what_is_written_is_read_again(seed: int) -> None:
    dice = random.Random(seed)
    pairs: list[tuple[int, int]] = []
    for _ in range(dice.randrange(40)):
        pair = (dice.randrange(-1, len(pairs)), dice.randrange(26))
        if pair not in pairs:  # two of the same variation are one
            pairs.append(pair)
    tree = move_tree(5, pairs)
    found, number = read_move_tree(write_move_tree(tree, RULES["full"]))
    assert number == 1 and found.board_size == 5
    assert sorted(found.lines()) == sorted(tree.lines())


@pytest.mark.parametrize(
    "text",
    [
        b"(;SZ[3]AB[aa]AW[bb]PL[W](;W[cc];B[ab])(;W[ac]))",
        b"(;SZ[3]HA[2]AB[cc][aa];W[bb](;B[ab])(;B[ac]))",
        b"(;SZ[3]PL[W];W[bb])",
    ],
)
def test_a_start_is_read_and_written_again(text: bytes) -> None:
    tree, _ = read_move_tree(text)
    assert tree.start is not None and tree.start.turn == 1
    written = write_move_tree(tree, RULES["full"])
    assert read_move_tree(written)[0] == tree
    assert (b"HA[2]" in written) is bool(tree.start.handicap)


def test_variations_are_read_in_their_order_and_equal_ones_are_one() -> None:
    text = b"(;SZ[3]CA[Shift_JIS]C[\x83\x5d];B[aa](;W[bb];B[cc])(;W[bb];B[])(;C[no move];W[ab]))"
    tree, _ = read_move_tree(text)
    assert tree.moves == [0, 4, 8, 9, 3] and tree.parents == [-1, 0, 1, 1, 0]
    assert tree.lines() == [[0, 4, 8], [0, 4, 9], [0, 3]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no game begins in it"),
        (b"(;SZ[3];B[aa](;W[bb])(;B[bb]))", r"move 2: B\[bb\] is black's"),
        (b"(;SZ[3];B[aa];AB[cc];W[bb])", "move 2: a position is set up in the middle"),
        (b"(;SZ[3](;AB[aa];W[bb])(;AB[bb];W[aa]))", "begin from different positions"),
        (b"(;SZ[3](;B[aa])(;AB[bb];W[aa]))", "begin from different positions"),
        (b"(;SZ[3];B[aa]" + b"(;W[bb])" * 501 + b")", "more than 500 variations"),
    ],
)
def test_what_cannot_be_read_is_said(text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_move_tree(text)


def test_a_deep_tree_is_no_depth_of_the_program() -> None:
    tree = move_tree(3, [(at - 1, 9) for at in range(1500)])
    assert read_move_tree(write_move_tree(tree, RULES["full"]))[0].moves == tree.moves


@pytest.mark.parametrize("pairs", [[(0, 1)], [(-2, 1)], [(-1, 1), (1, 2)]])
def test_a_move_must_stand_behind_the_one_it_follows(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="must follow one before it"):
        move_tree(3, pairs)
