"""Self-play in kernels, in graphs or not, is the same games and the same memory."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.interpreted import found_by
from tests.play.expert_cases import kept, played
from tests.waiting import no_waiting


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_the_interpreted_kernels_play_the_games_of_plain_torch(tmp_path: Path) -> None:
    found = found_by("tests.play.expert_cases", tmp_path / "found.pt")
    assert found["torch"].keys() == found["triton"].keys()
    for name, tensor in found["torch"].items():
        assert torch.equal(tensor, found["triton"][name]), name


@pytest.mark.gpu
@pytest.mark.parametrize("against", [0, 16])
def test_on_a_gpu_graphs_play_what_single_kernels_play(
    monkeypatch: pytest.MonkeyPatch, against: int
) -> None:
    options = {"size": 5, "slots": 64, "rows": 40, "against": against}
    graphs = played("triton", "cuda", 40, **options)
    assert set(graphs._graphs) == {"playouts", "full", "fast"}
    monkeypatch.setattr(type(graphs), "_step", lambda self, kind, run: run())
    single = played("triton", "cuda", 40, **options)
    expected = kept(single)
    for name, tensor in kept(graphs).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.gpu
def test_on_a_gpu_a_ply_waits_for_nothing() -> None:
    games = played("triton", "cuda", 12, size=5, slots=64, rows=40, against=16)
    torch.cuda.synchronize()
    with no_waiting():
        for _ in range(8):
            games.play()
