"""``tessera bench contexts``: published sizes are counted, and both tables hold what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tessera.commands.bench.contexts_command import zipf_vectors
from tests.runs import tessera


def test_the_published_block_is_counted_and_measured_before_and_after_its_training(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--tokens", 60, "--steps", 5, "--device", "cpu", "--rows"]
    assert tessera("bench", "contexts", *options, "192", "--json", "all.json") == 0
    (result,) = json.loads(Path("all.json").read_text())["results"]
    before, after = result["untrained"], result["trained"]
    # Fading memory: without any training a sweep soon changes nothing.
    assert before["converged"][1] < 0.3 and before["converged"][19] > 0.9
    assert before["converged"] != after["converged"] and before["rank"] != after["rank"]
    assert 0 < before["rank"] <= 60 / 192 and 0 < after["centred"] <= 60 / 192
    assert result["parameters"] == 384 * 1536 + 1536 + 1536 * 192 + 192 + 2 * 192
    told = capsys.readouterr().out
    for line in (
        r"all parameters                     52.78 million     52,780,800",
        r"context block                      7.09 million       7,091,712",
        r"bytes of 100,000 tokens' contexts  1.84 GB        1,843,200,000",
    ):
        assert line in told
    assert tessera("bench", "contexts", *options, "192") == 0
    assert capsys.readouterr().out == told  # the same figures each time


def test_nothing_is_trained_where_no_step_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--tokens", 20, "--steps", 0, "--rows", "192", "--device", "cpu"]
    assert tessera("bench", "contexts", *options) == 0
    told = capsys.readouterr().out
    assert "untrained" in told and "steps" not in told


def test_frequent_tokens_come_again_with_the_same_vector() -> None:
    vectors = zipf_vectors(3000, 16)[0]
    torch.testing.assert_close(vectors.std(1, correction=0), torch.ones(3000), atol=1e-3, rtol=0)
    kinds, times = vectors.unique(dim=0, return_counts=True)
    assert 1000 < len(kinds) < 2000
    # The most frequent of 50,257 has a chance of 1 / 11.4.
    assert 0.07 < int(times.max()) / 3000 < 0.11
