"""Phase 8's options are looked at where they are asked for, and nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.training.geometry import GeometryDiagnostics
from tests.runs import fit

ON = ("--trainer.callbacks", '[{"class_path": "tessera.training.geometry.GeometryDiagnostics"}]')
FIGURES = {"entailed_ratio", "betti_0", "betti_1", "sheaf_agreement", "resonance"}


def tags_of(run: str) -> dict[str, list[float]]:
    events = EventAccumulator(f"lightning_logs/{run}/version_0").Reload()
    return {
        tag.removeprefix("val/"): [event.value for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.startswith("val/")
    }


@pytest.mark.parametrize(
    ("mixer", "width", "absent"),
    [
        ("bk_core", 8, {"sheaf_agreement"}),
        pytest.param("mamba", 128, {"resonance"}, marks=pytest.mark.slow),
    ],
)
def test_they_are_logged_where_there_are_any_and_train_nothing(
    folder: Path, mixer: str, width: int, absent: set[str]
) -> None:
    options = ("--model.mixer", mixer, "--model.d_model", width, "--trainer.max_steps", 10)
    assert fit(*options, "--run_name", "plain") == 0
    assert fit(*options, *ON, "--run_name", "watched") == 0
    plain, watched = tags_of("plain"), tags_of("watched")
    assert watched.keys() - plain.keys() == FIGURES - absent
    assert all(watched[name] == values for name, values in plain.items())
    assert 0 <= watched["entailed_ratio"][0] <= 1
    assert watched["betti_0"][0] >= 1 and watched["betti_1"][0] >= 0
    if mixer == "bk_core":
        assert 0 < watched["resonance"][0] < 10
    else:
        assert 0 < watched["sheaf_agreement"][0] < 1
    weights = [
        torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "watched")
    ]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    assert all(math.isfinite(x) for values in watched.values() for x in values)


def test_a_move_is_entailed_by_the_move_before_it() -> None:
    outwards = torch.linspace(0.2, 1.5, 6)[None, :, None] * torch.ones(8)
    counted = torch.ones(1, 6, dtype=torch.bool)
    for vectors, expected in ((outwards, 1), (outwards.flip(1), 0)):
        found = GeometryDiagnostics()._measured(vectors, counted)
        assert float(found["entailed_ratio"]) == expected
