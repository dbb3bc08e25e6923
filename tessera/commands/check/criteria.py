"""The design's five criteria: what makes a verdict of what was measured.

Nothing here measures: the modules called ``..._trial`` fill the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tessera.commands.check.trials import MEAN_OF, PlayedBatch, TrainingRun
from tessera.monitor import THRESHOLDS, TOP_FIVE

Verdict = Literal["passed", "failed", "not measurable here"]

ENGINE_SHARE = 0.9  # of the batches that have to play all their games to the end
LONG_SHARE = 0.8  # of the batches that have to play all their moves
START_TOLERANCE = 0.1  # nats between the first loss and ln(vocabulary)
WANTED_FALL = 0.1  # of the first loss
MEAN_MS, MAX_MS = 0.5, 1.0  # of a copy between host and device
MAX_STATE_NORM = next(t.limit for t in THRESHOLDS if t.metric == "ssm_state_norm")
NEEDS_GPU = ("vram_used_mb", "fragmentation_ratio")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one criterion.

    Attributes:
        number: 1 to 5, as in the design.
        name: the criterion in words.
        measured: what was measured, in words.
        wanted: the figure it is held against.
        verdict: "not measurable here" is no pass.
        details: plain values behind the words.
    """

    number: int
    name: str
    measured: str
    wanted: str
    verdict: Verdict
    details: Mapping[str, Any]


def judge_engine(batches: Sequence[PlayedBatch]) -> Finding:
    """Criterion 1: 9 of 10 batches play their games to the end."""
    return _judge_batches(1, "the engine is stable", batches, ENGINE_SHARE, "played to the end")


def judge_long_games(batches: Sequence[PlayedBatch], plies: int) -> Finding:
    """Criterion 5: 8 of 10 batches play 300 moves."""
    what = f"played {plies} moves"
    finding = _judge_batches(5, "stable past the middle game", batches, LONG_SHARE, what)
    figures = [batch.figures for batch in batches if batch.figures]
    if not figures:
        return finding
    norms = [batch["max_ssm_state_norm"] for batch in figures]
    norm = math.nan if any(map(math.isnan, norms)) else max(norms)
    unbroken = sum(int(batch["num_unbroken_games"]) for batch in figures)
    told = f"; {unbroken} games went all the way, largest SSM state norm {norm:.3g}"
    return replace(finding, measured=finding.measured + told)


def _judge_batches(
    number: int, name: str, batches: Sequence[PlayedBatch], share: float, what: str
) -> Finding:
    total, sound = len(batches), sum(not batch.faults for batch in batches)
    # Rounded before, because 0.9 times 10 may be a hair more than 9.
    needed = math.ceil(round(share * total, 6))
    sizes = " or ".join(str(size) for size in sorted({batch.num_games for batch in batches}))
    plies = sum(batch.plies for batch in batches)
    measured = f"{sound} of {total} batches of {sizes} games {what}, {plies:,} moves"
    for batch in batches:
        if batch.faults:
            measured += f"; {batch.name}: {batch.faults[0]}"
            break
    details = {
        "sound_batches": sound,
        "needed_batches": needed,
        "batches": [asdict(batch) for batch in batches],
    }
    verdict: Verdict = "passed" if total and sound >= needed else "failed"
    return Finding(number, name, measured, f"at least {needed} of {total}", verdict, details)


def judge_progress(run: TrainingRun) -> Finding:
    """Criterion 2: the loss falls 10 % below its first value, and that is ln(vocabulary).

    The first value is the loss before the first update. A model that begins above ln(vocabulary)
    would fall by itself, so a first value more than ``START_TOLERANCE`` away from it is a failure.
    """
    start = math.log(run.vocab_size)
    first = run.losses[0] if run.losses else math.nan
    wanted = (
        f"{WANTED_FALL:.0%} below the first within {run.max_steps:,} steps; the first within"
        f" {START_TOLERANCE} of ln {run.vocab_size} = {start:.3f}"
    )
    measured = (
        f"{run.name}: loss {first:.3f}, and {run.last_loss:.3f} after {len(run.losses)} steps"
        f" (mean of the last {MEAN_OF}): {run.fall:.2%} below; floor {run.floor_nats:.3f},"
        f" excess_nats {run.excess_nats:.3f}"
    )
    if run.fault:
        measured = f"ended by {run.fault}; {measured}" if run.losses else f"ended by {run.fault}"
    begins_well = abs(first - start) <= START_TOLERANCE
    # Compared as losses, with room for the rounding of a mean.
    fell = run.last_loss <= (1 - WANTED_FALL) * first + 1e-9
    passed = begins_well and fell and not run.fault
    details = {
        "training": run.name,
        "ln_vocabulary": start,
        "first_loss": first,
        "last_loss": run.last_loss,
        "fall_ratio": run.fall,
        "steps": len(run.losses),
        "floor_nats": run.floor_nats,
        "excess_nats": run.excess_nats,
        "fault": run.fault,
        "losses": list(run.losses),
    }
    return Finding(2, "training progresses", measured, wanted, _verdict(passed), details)


def judge_transfers(run: TrainingRun) -> Finding:
    """Criterion 3: copies between host and device are short, and each has an owner.

    On a CPU both memories are one. The calls are timed by the clock there and held against the same
    figures; that no copy is unowned is something only a GPU can show.
    """
    name, wanted = "everything stays on the GPU", f"mean < {MEAN_MS} ms, max < {MAX_MS} ms"
    has_gpu = run.device == "cuda"
    if has_gpu:
        wanted += "; no unowned copy"
    reading = run.monitor
    if reading is None:
        measured = f"nothing: the training ended by {run.fault}"
        return Finding(3, name, measured, wanted, "failed", {"fault": run.fault})
    number = reading.num_transfers
    times = f"mean {reading.mean_ms:.4f} ms, max {reading.max_ms:.4f}"
    quick = number > 0 and reading.mean_ms < MEAN_MS and reading.max_ms < MAX_MS
    if has_gpu:
        unowned, steps = reading.unowned_copies, reading.num_profiled_steps
        copies = f"{len(unowned)} unowned" + (f" ({unowned[0]})" if unowned else "")
        measured = f"{times} ms over {number} copies; {copies} in {steps} profiled steps"
        verdict = _verdict(quick and not unowned and steps > 0)
    else:
        measured = f"host and device are one here; {number} copies timed by the clock"
        measured += f": {times} ms" if number else ""
        verdict = _verdict(quick) if number else "not measurable here"
    details = asdict(reading)
    del details["latest"], details["why_absent"]  # of the next criterion
    return Finding(3, name, measured, wanted, verdict, details)


def judge_monitor(run: TrainingRun) -> Finding:
    """Criterion 4: all of the top five can be read; where there is no GPU, all that need none."""
    name = "the monitor works"
    reading = run.monitor
    has_gpu = run.device == "cuda"
    wanted = "all top five metrics" if has_gpu else "the top five metrics that need no GPU"
    if reading is None:
        measured = f"nothing: the training ended by {run.fault}"
        return Finding(4, name, measured, wanted, "failed", {"fault": run.fault})
    latest = reading.latest
    absent = [name for name in TOP_FIVE if not math.isfinite(latest.get(name, math.nan))]
    # The last of the five is two metrics.
    five = [*((metric,) for metric in TOP_FIVE[:4]), TOP_FIVE[4:]]
    whole = [one for one in five if not set(one) & set(absent)]
    parts = [f"{metric} {latest[metric]:.4g}" for one in whole for metric in one]
    impossible = [metric for metric in absent if metric in NEEDS_GPU and not has_gpu]
    missing = [metric for metric in absent if metric not in impossible]
    measured = f"{len(whole)} of {len(five)}: {', '.join(parts) or 'none'}"
    if impossible:
        measured += f"; not measurable here: {', '.join(impossible)}"
    if missing:
        reasons = (f"{m} ({reading.why_absent.get(m, 'never read')})" for m in missing)
        measured += f"; absent: {', '.join(reasons)}"
    details = {
        "latest": dict(latest),
        "why_absent": dict(reading.why_absent),
        "not_measurable_here": impossible,
        "absent": missing,
    }
    return Finding(4, name, measured, wanted, _verdict(not missing), details)


def _verdict(passed: bool) -> Verdict:
    return "passed" if passed else "failed"
