"""Self-play in two processes, on the CPU: each plays its own games, and both learn the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.training.test_expert_iteration import SMALL
from tests.training.two_processes import fit

# A callback that writes down what each process has played and drawn.
LOOK = """
import torch
from lightning.pytorch import Callback

class Games(Callback):
    def __init__(self):
        self.drawn = []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.drawn.append(batch.positions.rows.clone())

    def on_train_end(self, trainer, module):
        own = module.objective
        ring = own.games.ring.tensors["rows"]
        seen = {"numbers": own.games.numbers, "ring": ring, "plies": own.games.plies}
        seen |= {"drawn": self.drawn, "pool": own.pool.numbers, "watches": len(own._watches)}
        torch.save({**seen, "weights": module.state_dict()}, f"rank{trainer.global_rank}.pt")
"""


def test_each_of_two_processes_plays_its_own_numbers_and_both_learn_the_same(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL)
    (folder / "look.py").write_text(LOOK)
    options = ["--trainer.max_steps", "7", "--model.expert_iteration.match_pairs", "1"]
    options += ["--trainer.callbacks", '[{"class_path": "look.Games"}]']
    done = fit("two", 2, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (seen(folder, rank) for rank in (0, 1))
    assert not set(first["numbers"].tolist()) & set(second["numbers"].tolist())
    assert not torch.equal(first["ring"], second["ring"])
    assert not any(map(torch.equal, first["drawn"], second["drawn"]))
    assert first["plies"] == second["plies"] and len(first["drawn"]) == len(second["drawn"]) == 7
    assert all(torch.equal(own, second["weights"][name]) for name, own in first["weights"].items())
    # The same past version is with both; the first one alone plays its matches, and tells of them.
    assert first["pool"] == second["pool"] == [6]
    assert (first["watches"], second["watches"]) == (1, 0)
    assert done.stderr.count("matches of version 6:") == 1


def seen(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return found
