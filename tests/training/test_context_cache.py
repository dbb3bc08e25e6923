"""Contexts that are kept: the room for them, whose they are, and the order of their positions."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
import torch

from tessera.training.objectives import context_cache
from tessera.training.objectives.positions import shuffled
from tests.runs import fit
from tests.training.test_fixed_point import OPTIONS, first_batches, last


def test_positions_come_in_another_order_each_epoch_from_any_batch_on() -> None:
    epochs = first_batches(23, 5, 12)
    for epoch in range(3):
        rows = torch.cat(epochs[4 * epoch : 4 * epoch + 4])
        assert len(set(rows.tolist())) == 20
    assert not torch.equal(epochs[0], epochs[4])
    assert torch.equal(next(shuffled(23, 5, 0, 6)), epochs[6])


def test_contexts_that_have_no_room_are_refused_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    usage = shutil.disk_usage(folder)._replace(free=2**26 + 500)
    with monkeypatch.context() as patch:
        patch.setattr(context_cache.shutil, "disk_usage", lambda place: usage)
        assert fit(*OPTIONS, "--model.context_token.d_context", 5) == 1
    told = capsys.readouterr().err
    # Twelve games of at most 13 positions, each with one context of 5 numbers.
    line = (
        "contexts need 3,120 bytes and there is room for 500; lower model.fixed_point.cached_games"
    )
    assert line in told.splitlines()[-1]
    assert not last().exists()
    assert fit(*OPTIONS, "--model.fixed_point.cache", "memory") == 0


def test_contexts_stay_if_they_are_asked_to_and_only_the_same_ones_are_used_again(
    folder: Path,
) -> None:
    assert fit(*OPTIONS, "--model.fixed_point.keeps_contexts", "true") == 0
    kept = last().parent / "contexts"
    before = (kept / "contexts.f32").stat().st_mtime_ns
    shape = (100, 1, 8)
    cache = context_cache.ContextCache(shape, "of other weights", kept, torch.device("cpu"))
    assert cache.pieces_done == 0 and cache.num_bytes == 3200
    assert (kept / "contexts.f32").stat().st_mtime_ns != before
    made = torch.randn(shape)
    sizes = [60, 40]
    cache.make(sizes, lambda number: made[60 * number :][: sizes[number]], lambda done, of: None)
    again = context_cache.ContextCache(shape, "of other weights", kept, torch.device("cpu"))
    assert again.pieces_done == 2
    rows = torch.tensor([99, 3, 61])
    torch.testing.assert_close(again.rows(rows), (made[rows, 0],))


def test_a_disk_that_is_fuller_than_it_said_is_named_and_left_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(context_cache.os, "posix_fallocate", full)
    place = folder / "contexts"
    with pytest.raises(OSError, match=r"No space left on device: '.*contexts\.f32'"):
        context_cache.ContextCache((9, 1, 8), "key", place, torch.device("cpu"))
    assert not any(place.iterdir())
