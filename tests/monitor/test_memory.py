"""Memory is read where it can be, and absent with a reason where not."""

from __future__ import annotations

import sys

import pytest
import torch

from tessera.monitor import MemoryProbe
from tessera.monitor.memory import allocator_metrics, bytes_of_graphs
from tests.monitor.cards import MIB, NVML, STATS, pretend_a_card


def test_the_allocators_counters_become_metrics() -> None:
    assert allocator_metrics(STATS) == {
        "vram_allocated_mb": 100,
        "vram_reserved_mb": 500,
        "fragmentation_ratio": 1.25,
        "num_segments": 7,
        "inactive_split_ratio": 0.1,
        "alloc_retries": 1,
        "ooms": 0,
    }


def test_memory_that_graphs_write_between_their_kernels_is_no_hole() -> None:
    def segment(
        device: int, pool: tuple[int, int], total: int, allocated: int
    ) -> dict[str, object]:
        sizes = {"total_size": total * MIB, "allocated_size": allocated * MIB}
        return {"device": device, "segment_pool_id": pool, **sizes}

    segments = [segment(0, (0, 3), 80, 20), segment(0, (0, 0), 400, 1), segment(1, (0, 3), 9, 0)]
    of_graphs = bytes_of_graphs(segments, 0)
    assert of_graphs == 60 * MIB
    metrics, without = allocator_metrics(STATS, of_graphs), allocator_metrics(STATS)
    assert metrics.pop("fragmentation_ratio") == 1.1 and without.pop("fragmentation_ratio") == 1.25
    assert metrics == without


def test_what_the_allocator_does_not_say_is_absent() -> None:
    assert allocator_metrics({"segment.all.current": 3}) == {"num_segments": 3}
    empty = dict.fromkeys(STATS, 0)
    assert "fragmentation_ratio" not in allocator_metrics(empty)
    assert "inactive_split_ratio" not in allocator_metrics(empty)


def test_a_cpu_has_no_gpu_memory_and_says_so() -> None:
    probe = MemoryProbe("cpu")
    assert probe.read() == {} and probe.problem is None
    for name in ("vram_used_mb", "vram_reserved_mb", "fragmentation_ratio", "num_segments"):
        assert probe.why_absent[name] == "cpu has no GPU memory"
    probe.close()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_a_card(monkeypatch)


def test_the_whole_card_is_read_from_nvml(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = NVML()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    probe = MemoryProbe("cuda:0")
    values = probe.read()
    assert (values["vram_used_mb"], values["vram_used_ratio"]) == (870, 0.87)
    assert values["vram_reserved_mb"] == 500 and probe.problem is None
    assert nvml.is_open
    probe.close()
    assert not nvml.is_open


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 5])
def test_nvml_that_fails_is_replaced_by_the_cuda_runtime(
    card: None, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", NVML(fails_at))
    probe = MemoryProbe("cuda:0")
    used = [probe.read()["vram_used_mb"] for _ in range(3)]
    healthy = max(0, fails_at - 4)  # one look at the card is made before
    assert used == healthy * [870] + (3 - healthy) * [750]
    assert probe.problem is not None and "version mismatch" in probe.problem


def test_without_the_package_the_cuda_runtime_is_asked(
    card: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    probe = MemoryProbe("cuda:0")
    assert probe.read()["vram_used_mb"] == 750
    assert probe.problem is not None and "pynvml" in probe.problem


@pytest.mark.gpu
def test_what_a_graph_writes_on_its_way_is_no_hole() -> None:
    torch.cuda.empty_cache()
    graph, source = torch.cuda.CUDAGraph(), torch.ones(2**26, device="cuda")  # 256 MiB
    with torch.cuda.graph(graph):
        total = ((source + 1) * 2).exp().sum()
    MemoryProbe("cuda").read()  # the peak is that of the capture
    probe = MemoryProbe("cuda")
    graph.replay()
    values = probe.read()
    assert values["vram_reserved_mb"] > 2 * values["vram_allocated_mb"]
    assert values["fragmentation_ratio"] < 1.5 and total.isfinite()


@pytest.mark.gpu
def test_a_fragmented_heap_shows_in_the_ratio() -> None:
    torch.cuda.empty_cache()
    probe = MemoryProbe("cuda")
    blocks = [torch.empty(64 * MIB, dtype=torch.uint8, device="cuda") for _ in range(40)]
    full = probe.read()
    del blocks[::2]
    probe.read()  # the peak of before belongs to this sample
    fragmented = probe.read()
    assert full["fragmentation_ratio"] < 1.5 < fragmented["fragmentation_ratio"]
    assert full["vram_used_mb"] > 40 * 64 and 0 < full["vram_used_ratio"] < 1
    assert full["num_segments"] >= 40
    torch.cuda.empty_cache()
    assert probe.read()["vram_reserved_mb"] < fragmented["vram_reserved_mb"] - 19 * 64
    del blocks
    torch.cuda.empty_cache()
    probe.close()
