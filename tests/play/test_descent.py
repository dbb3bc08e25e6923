"""The kernel of a search's descent goes where the plain form goes, without a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.interpreted import found_by
from tests.play.descents import searched

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def test_interpreted_descents_are_those_of_the_plain_form(tmp_path: Path) -> None:
    file = tmp_path / "descents.pt"
    plain, kernel, searches = found_by("tests.play.descents", file)
    for expected, found in zip(plain, kernel, strict=True):
        assert torch.equal(expected, found)
    assert int(plain[2].sum(1).max()) > 5  # nodes on the longest path, the root among them
    # A whole search in kernels: games copied, moves played, judged and followed.
    for expected, found in zip(searched("torch"), searches, strict=True):
        assert torch.equal(expected, found)


@pytest.mark.gpu
def test_descents_on_a_gpu_are_those_of_the_plain_form() -> None:
    from tessera.play.kernels.descent import descend
    from tests.play.descents import grown

    trees, moves = grown()
    plain = trees.descend(trees.num_nodes, moves)
    tables = tuple(table.cuda() for table in trees.tables())
    kernel = descend(tables, moves.cuda(), *trees.sigma)
    for expected, found in zip(plain, kernel, strict=True):
        assert torch.equal(expected, found.cpu())
