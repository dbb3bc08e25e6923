"""The trees of plain UCT: how they are walked, and that the kernel walks as the plain form does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tessera.play.uct_tree import MOST_DEPTH, UctTree, Walks
from tests.interpreted import found_by
from tests.play.uct_cases import chosen, grown


def test_what_one_player_wins_the_other_loses_on_the_way() -> None:
    tree = UctTree(torch.ones(1, 3, dtype=torch.bool), 4)
    nodes = torch.zeros(1, 1, MOST_DEPTH, dtype=torch.int64)
    nodes[0, 0, :4] = torch.tensor([1, 2, 3, 4])
    walks = Walks(torch.zeros_like(nodes), nodes, torch.tensor([[3]]))
    tree.count(walks, torch.tensor([[2]]))
    assert tree._points[0].tolist() == [0, 2, 0, 2, 0]
    assert walks.leaves().tolist() == [[3]]


def test_every_move_is_tried_before_any_is_tried_again() -> None:
    tree = UctTree(torch.tensor([[True, False, True, True]]), 9)
    ties = torch.tensor([[0.1, 0.9, 0.5, 0.2]])
    walks = tree.walk(3, ties)
    assert walks.moves[0, :, 0].tolist() == [2, 3, 0] and walks.lengths.tolist() == [[1, 1, 1]]
    assert walks.leaves().tolist() == [[1, 2, 3]]
    # Nothing is open behind them, so a fourth walk ends where one of them did: the best of three.
    tree.count(walks, torch.tensor([[0, 2, 0]]))
    again = tree.walk(1, ties)
    assert again.moves[0, 0, 0] == 3 and again.lengths.tolist() == [[1]]


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_interpreted_walks_are_those_of_the_plain_form(tmp_path: Path) -> None:
    found = found_by("tests.play.uct_cases", tmp_path / "walks.pt")
    for expected, table in zip(grown(False), found, strict=True):
        assert torch.equal(expected, table)
    lengths = torch.stack(found[:-5:3])
    assert int(lengths.max()) > 2  # walks go deeper than the first moves


@pytest.mark.gpu
def test_walks_on_a_gpu_are_those_of_the_plain_form() -> None:
    for expected, table in zip(grown(False), grown(True, "cuda"), strict=True):
        assert torch.equal(expected, table)
    assert torch.equal(chosen("torch"), chosen("triton", "cuda"))
