"""Memory is given back now and then, and what it cost and gave is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tessera.monitor import Defragmentation, defragment
from tests.monitor.runs import run, scalars

MIB = 2**20


def test_on_a_cpu_nothing_is_done(folder: Path) -> None:
    run("--defragmentation.every_n_steps", 2)
    assert not any("defragmentation" in tag for tag in scalars())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, got 0."),
        ({"only_above": 0.9}, "only_above must be at least 1, got 0.9."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        Defragmentation(**arguments)


def fragmented(num_blocks: int = 40) -> list[torch.Tensor]:
    """Blocks of 64 MiB with as many holes between them."""
    blocks = [torch.empty(64 * MIB, dtype=torch.uint8, device="cuda") for _ in range(num_blocks)]
    del blocks[::2]
    return blocks


@pytest.mark.gpu
def test_a_fragmented_heap_is_given_back() -> None:
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    kept = fragmented()
    kept[0].fill_(7)
    reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
    assert reserved / allocated > 1.5
    done = defragment(device)
    assert done.returned_mb >= 19 * 64 and 0 < done.ms < 5000
    assert torch.cuda.memory_reserved() / torch.cuda.memory_allocated() < 1.2
    assert torch.cuda.memory_allocated() == allocated and bool((kept[0] == 7).all())
    del kept
    torch.cuda.empty_cache()


@pytest.mark.gpu
def test_a_run_defragments_and_its_losses_stay_the_same(folder: Path) -> None:
    off = ["--monitor.enabled", "false", "--trainer.deterministic", "warn"]
    run(*off, "--defragmentation.every_n_steps", 5)
    done = scalars()
    assert sorted(done["monitor/defragmentation_ms"]) == [5, 10, 15, 20]
    assert all(ms > 0 for ms in done["monitor/defragmentation_ms"].values())
    run(*off, "--defragmentation.only_above", 1000, "--defragmentation.every_n_steps", 5)
    other = scalars(Path("lightning_logs/small/version_1"))
    assert "monitor/defragmentation_ms" not in other
    assert other["train/loss"] == done["train/loss"]
