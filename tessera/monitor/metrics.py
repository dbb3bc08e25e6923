"""What the monitor measures: one name, unit and definition for each metric.

Letters: B games, of a batch at most its first 512; D channels, N states of a channel; h is the SSM
state after each game's last move.
A step is an optimizer step in training; a ply where games are played.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

CATEGORIES = ("memory", "fragmentation", "state", "timing", "game")


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity.

    Attributes:
        name: the one spelling, in code, in YAML and after ``monitor/`` in TensorBoard.
        formula: what exactly is measured.
        healthy: what it looks like when all is well.
        category: one of ``CATEGORIES``.
        sampled: the argument of ``TesseraMonitor`` that says how often.
        cost: what a sample costs, and whether it waits for the GPU.
        unit: empty for a pure number.
    """

    name: str
    formula: str
    healthy: str
    category: str
    sampled: str
    cost: str
    unit: str = ""


_COUNTERS = "reads counters on the host, no wait"
_DRIVER = "one question to the driver, below 0.1 ms of the host, no wait"
_STATE = "reductions on the GPU and one copy of a few numbers that is read a sample later, no wait"
_EVENTS = "two CUDA events that are read a sample later, no wait; on a CPU two looks at the clock"
_GAME = "one ply of 64 games of the monitor's own, read a sample later, no wait"


_memory = partial(Metric, category="memory", sampled="memory_every", cost=_COUNTERS)
_fragmentation = partial(_memory, category="fragmentation")
_state = partial(Metric, category="state", sampled="state_every", cost=_STATE)
_timing = partial(Metric, category="timing", sampled="timing_every", cost=_EVENTS, unit="ms")
_game = partial(Metric, category="game", sampled="game_every", cost=_GAME)

_ALL = (
    _memory(
        "vram_used_mb",
        "memory in use on the whole card, by every process, from NVML",
        "flat after the first steps",
        cost=_DRIVER,
        unit="MiB",
    ),
    _memory(
        "vram_allocated_mb",
        "memory in this process's tensors at this moment, from the caching allocator",
        "the same at every sample",
        unit="MiB",
    ),
    _memory(
        "vram_reserved_mb",
        "memory that this process's caching allocator holds, in use or not",
        "flat after the first steps",
        unit="MiB",
    ),
    _memory(
        "vram_used_ratio",
        "vram_used_mb over the card's whole memory, 0 to 1",
        "below 0.85",
        cost=_DRIVER,
    ),
    _fragmentation(
        "fragmentation_ratio",
        "vram_reserved_mb over the most that was allocated at once since the last sample",
        "1.0 to 1.5; above that a third of the reserved memory is of no use",
    ),
    _fragmentation(
        "num_segments",
        "blocks that the allocator has from the driver now, segment.all.current",
        "flat after the first steps",
    ),
    _fragmentation(
        "inactive_split_ratio",
        "reserved bytes that are free but stuck beside used ones, over all reserved bytes, 0 to 1",
        "below 0.3",
    ),
    _fragmentation(
        "alloc_retries",
        "times since the start that the allocator had to empty its cache and try again",
        "0",
    ),
    _fragmentation("ooms", "allocations since the start that found no memory", "0"),
    _state(
        "ssm_state_norm",
        "the highest over the layers of: mean over the B games of sqrt(sum of h² over D and N)",
        "a constant well below 100",
    ),
    _state(
        "ssm_state_entropy",
        "the lowest over the layers of: mean over the B games of -sum p ln p, with p = h² / sum h² "
        "over D and N; 0 for an empty state",
        "well above 0: many channels carry the game; at most ln(D N)",
        unit="nats",
    ),
    _state(
        "ssm_state_entropy_ratio",
        "ssm_state_entropy with each layer's divided by its ln(D N), 0 to 1",
        "0.5 to 0.95",
    ),
    _state(
        "ssm_state_delta_norm",
        "the highest over the layers of: sqrt(sum over D and N of (m - m')²), with m the mean of h "
        "over the B games now and m' at the last sample",
        "falls as training settles; absent at the first sample",
    ),
    _timing(
        "time_forward",
        "the model's forward of one training batch, its losses included",
        "constant",
    ),
    _timing(
        "time_legal_mask",
        "GPUGoEngine.get_legal_mask of the monitor's 64 games",
        "constant, below 1 ms on a GPU",
        sampled="game_every",
    ),
    _timing(
        "time_play_move",
        "GPUGoEngine.play_batch, one ply of the monitor's 64 games",
        "constant, below 1 ms on a GPU",
        sampled="game_every",
    ),
    _timing(
        "time_transfer",
        "mean time of one copy between host and device, over those since the last sample that "
        "tessera.transfers timed, checkpoints left out",
        "below 0.5 ms; on a CPU nothing is moved, and the call is timed",
    ),
    _timing("time_transfer_max", "the longest of the same copies", "below 1 ms"),
    _timing(
        "unowned_copies",
        "copies between host and device in the last recorded steps that no part of Tessera owns",
        "0",
        sampled="copies_every",
        cost="torch's profiler over a few steps, which waits for the GPU before and after them",
        unit="",
    ),
    _game(
        "move_number",
        "mean over the monitor's games of the plies played",
        "rises by 1 a sample and falls back as games end",
    ),
    _game(
        "stones_on_board",
        "mean over the monitor's games of the stones of both colours",
        "rises with move_number until captures hold it",
    ),
    _game(
        "legal_moves_count",
        "mean over the monitor's games of the legal points, pass left out",
        "falls from n² as the board fills",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

# The five lines to look at first; the last of them is two metrics.
TOP_FIVE = (
    "time_transfer",
    "vram_used_mb",
    "fragmentation_ratio",
    "ssm_state_norm",
    "move_number",
    "legal_moves_count",
)
