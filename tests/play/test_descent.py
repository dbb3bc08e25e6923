"""The kernel of a search's descent goes where the plain form goes, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.play.descents import searched
from tests.runs import python_path

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
ROOT = Path(__file__).parents[2]


def test_interpreted_descents_are_those_of_the_plain_form(tmp_path: Path) -> None:
    file = tmp_path / "descents.pt"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": python_path(ROOT)}
    command = [sys.executable, "-m", "tests.play.descents", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter cannot loop under this NumPy")
    assert done.returncode == 0, done.stderr[-4000:]
    plain, kernel, searches = torch.load(file)
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
