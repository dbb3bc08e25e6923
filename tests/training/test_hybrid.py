"""A model of several kinds of layers through the real commands, and what may not change of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import fit, tessera
from tests.training.test_resume import STOPPER, stop_at

HYBRID = (
    *("--model.n_layers", 4, "--model.mixer", "[mamba, attention, mamba2]"),
    *("--model.feed_forward", "dense", "--model.dense.expand", 2),
)
LAST = Path("checkpoints/small/version_0/last.ckpt")

# Parts of a user's own, where there is one registered part of a kind only.
OTHERS = """
from tessera.model.embeddings import TokenEmbedding
from tessera.model.heads import LinearHead

class OtherEmbedding(TokenEmbedding):
    def __init__(self, vocab_size: int, d_model: int, pad_token: int) -> None:
        super().__init__(vocab_size, d_model, padding_idx=pad_token)

class OtherHead(LinearHead):
    pass
"""


@pytest.fixture(autouse=True)
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    (folder / "hybrid_others.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(folder)


def state(name: str = "small") -> dict[str, Any]:
    return torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)


@pytest.mark.parametrize("share", [0, 0.5])
def test_an_interrupted_hybrid_goes_on_as_if_it_had_not_been(
    share: float, capsys: pytest.CaptureFixture
) -> None:
    games = ("--data.selfplay_share", share, "--model.lr", 0.01)
    assert fit(*HYBRID, *games, "--run_name", "whole") == 0
    assert fit(*HYBRID, *games, *stop_at(12, signal.SIGTERM)) == 143
    assert state()["global_step"] == 13
    # What is not said is as in the checkpoint: the layers, the feed-forward and its size.
    assert fit(*games, "--ckpt_path", "last") == 0
    whole, resumed = state("whole"), state()
    assert resumed["global_step"] == whole["global_step"] == 20
    for name, weight in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name
    names = set(whole["state_dict"])
    assert {"model.blocks.mixers.1.in_proj.weight", "model.blocks.mixers.2.dt_bias"} <= names
    assert {"model.blocks.mixers.3.A_log", "model.blocks.feed_forwards.3.up.weight"} <= names
    optimizers = [run["optimizer_states"][0]["state"] for run in (whole, resumed)]
    for index, moment in optimizers[0].items():
        assert torch.equal(moment["exp_avg"], optimizers[1][index]["exp_avg"])
    if share:
        assert whole["GameDataModule"]["selfplay_weights"]
    capsys.readouterr()


def test_a_hybrid_is_measured_and_predicts(capsys: pytest.CaptureFixture) -> None:
    assert fit(*HYBRID, "--trainer.max_steps", 4) == 0
    capsys.readouterr()
    assert tessera("test", "--config", "small.yaml", "--ckpt_path", "last") == 0
    assert "excess_nats" in capsys.readouterr().out
    Path("games.txt").write_text("B2 A1\n")
    assert tessera("predict", "--ckpt_path", LAST, "--games", "games.txt") == 0
    plies = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(plies) == 3
    assert all(sum(ply["probabilities"].values()) == pytest.approx(1, abs=1e-4) for ply in plies)


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (("mixer", "attention"), "model.mixer must be [mamba, attention, mamba2] … got attention."),
        (
            ("mixer", "[attention, mamba, mamba2]"),
            "model.mixer must be [mamba, attention, mamba2] … got [attention, mamba, mamba2].",
        ),
        (("attention.num_heads", 2), "model.attention.num_heads must be null … got 2."),
        (("mamba2.headdim", 4), "model.mamba2.headdim must be null … got 4."),
        (("mamba.d_state", 8), "model.mamba.d_state must be 4 … got 8."),
        (("feed_forward", "none"), "model.feed_forward must be dense … got none."),
        (("dense.expand", 3), "model.dense.expand must be 2 … got 3."),
        (("n_layers", 3), "model.n_layers must be 4 … got 3."),
        (
            ("embedding", "hybrid_others.OtherEmbedding"),
            "model.embedding must be table … got hybrid_others.OtherEmbedding.",
        ),
        (
            ("head", "hybrid_others.OtherHead"),
            "model.head must be linear … got hybrid_others.OtherHead.",
        ),
    ],
    ids=str,
)
def test_no_part_may_be_another_in_a_run_that_goes_on(
    wanted: tuple[str, object], line: str, capsys: pytest.CaptureFixture
) -> None:
    assert fit(*HYBRID, "--trainer.max_steps", 2) == 0
    before = LAST.read_bytes()
    capsys.readouterr()
    name, value = wanted
    for command in ("fit", "test"):
        asked = ["--config", "small.yaml", "--ckpt_path", "last", f"--model.{name}", value]
        assert tessera(command, *asked) == 2
        told = capsys.readouterr().err
        assert told == f"tessera: {line}\n".replace("…", f"to go on from {LAST},")
    assert LAST.read_bytes() == before
