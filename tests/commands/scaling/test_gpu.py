"""On a GPU, where steps are replayed as CUDA graphs: a rung has the bits of a run trained alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessera.commands.compare.training import run_one
from tessera.commands.quiet import quieten
from tests.commands.scaling.test_ladder import FITS, folder, ladders
from tests.runs import tessera

__all__ = ["folder"]

SEEN = ("--model.features", "board", "--model.head", "points", "--model.board.channels", "8")
LARGER = ("--data.board_size", "9", "--data.max_moves", "64", "--trainer.precision", "bf16-mixed")


@pytest.mark.gpu
@pytest.mark.parametrize("more", [LARGER, (*LARGER, *SEEN)], ids=["moves", "board"])
def test_a_rung_has_the_bits_of_a_run_that_was_trained_alone(
    folder: Path, more: tuple[str, ...]
) -> None:
    quieten()
    budgets = ("--tokens", "20000,40000,60000,80000", *more)
    assert tessera("scaling", "tiny.yaml", *budgets, *FITS, "--folder", "out") == 0
    (ladder,) = ladders(*budgets)
    for rung in ladder.rungs[1:3]:
        alone = run_one(rung.run.settings, folder / "alone" / rung.run.run_id, lambda told: None)
        result = json.loads((folder / "out" / "runs" / rung.run.run_id / "result.json").read_text())
        assert alone["figures"]["loss"] == result["figures"]["loss"]
        assert alone["per_game"] == result["per_game"]
