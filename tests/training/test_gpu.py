"""On a GPU: resuming is exact, bit for bit, and what saves memory changes nothing else.

The slow one says what deterministic mode costs: ``pytest tests/training/test_gpu.py -m gpu -s``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from tessera.model import MambaModel
from tests.runs import python_path

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

# configs/tessera.yaml but for what makes it short. The schedule is that of the whole run.
SHORT: list[object] = ["--trainer.max_steps", 200, "--model.decay_steps", 200]
SHORT += ["--trainer.val_check_interval", 50, "--data.val_batches", 2]
SHORT += ["--trainer.log_every_n_steps", 1, "--model.warmup_steps", 20]
SHORT += ["--checkpoint_every_n_steps", 1000, "--picture_every_n_validations", 0]
SHORT += ["--model.scan", "triton", "--data.batch_size", 512]

# Some of deterministic mode's time goes into filling what nobody will read.
UNFILLED = "import torch; torch.utils.deterministic.fill_uninitialized_memory = False; "
COMMAND = "import sys; from tessera.cli import main; sys.exit(main(sys.argv[1:]))"


def fit(repository: Path, *options: object, before: str = "") -> None:
    """``tessera fit`` on configs/tessera.yaml as a process of its own, which has to end well.

    A process, because deterministic mode stays on, and because its cuBLAS has to be told of it
    before it begins; the environment says nothing of either.
    """
    environment = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    environment["PYTHONPATH"] = python_path(repository)
    arguments = ["fit", "--config", repository / "configs" / "tessera.yaml", *options]
    run = subprocess.run(
        [sys.executable, "-c", before + COMMAND, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]


def state(run: str) -> dict[str, Any]:
    return torch.load(f"checkpoints/{run}/version_0/last.ckpt", weights_only=True)


def scalars(run: str) -> dict[str, list[tuple[int, float, float]]]:
    """Step, value and the time of writing of every curve."""
    log = EventAccumulator(f"lightning_logs/{run}/version_0", size_guidance={"scalars": 0})
    log.Reload()
    return {
        tag: sorted((event.step, event.value, event.wall_time) for event in log.Scalars(tag))
        for tag in log.Tags()["scalars"]
    }


def learned(run: str) -> dict[str, list[tuple[int, float]]]:
    """The curves but for the speed and what the monitor measured of the machine."""
    measured = ("train/tokens_per_s", "monitor/")
    return {
        tag: [(step, value) for step, value, _ in curve]
        for tag, curve in scalars(run).items()
        if not tag.startswith(measured)
    }


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """The places at which two parts of a checkpoint differ."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
        return [] if same else [where]
    if type(a) is not type(b):
        return [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [where]
        return [at for key in a for at in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [where]
        pairs = enumerate(zip(a, b, strict=True))
        return [at for nth, pair in pairs for at in differences(*pair, f"{where}.{nth}")]
    return [] if a == b else [where]


@pytest.mark.parametrize("deterministic", [False, True], ids=["as it is", "deterministic"])
@pytest.mark.parametrize(
    "options",
    [
        ["--model.n_layers", 1],
        ["--model.n_layers", 4],
        ["--model.n_layers", 1, "--data.selfplay_share", 0.5, "--data.games_per_chunk", 1024],
    ],
    ids=["one block", "four blocks", "self-play"],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    folder: Path, repository: Path, options: list[object], deterministic: bool
) -> None:
    options = [*SHORT, "--trainer.precision", "bf16-mixed", *options]
    options += ["--trainer.deterministic", "true"] if deterministic else []
    fit(repository, *options, "--run_name", "whole")
    fit(repository, *options, "--run_name", "halves", "--trainer.max_steps", 100)
    assert state("halves")["global_step"] == 100
    fit(repository, *options, "--run_name", "halves", "--ckpt_path", "last")
    whole, halves = state("whole"), state("halves")
    for part in ("global_step", "state_dict", "optimizer_states", "GameDataModule"):
        assert differences(whole[part], halves[part], part) == []
    curves = learned("whole")
    assert curves == learned("halves")
    assert [step for step, _ in curves["train/loss"]] == list(range(1, 201))
    assert [step for step, _ in curves["val/excess_nats"]] == [50, 100, 150, 200]
    # It learned something: equal runs that stand still would prove little.
    assert curves["train/loss"][-1][1] < curves["train/loss"][0][1] - 0.3


@pytest.mark.parametrize(
    "options",
    [
        ["--model.n_layers", 2],
        ["--data.context", "null", "--data.max_moves", 60, "--trainer.accumulate_grad_batches", 2],
    ],
    ids=["windows", "whole games, two batches a step"],
)
def test_a_replayed_run_is_the_run_bit_for_bit(
    folder: Path, repository: Path, options: list[object]
) -> None:
    options = [*SHORT, "--trainer.precision", "bf16-mixed", *options, "--trainer.max_steps", 60]
    fit(repository, *options, "--run_name", "replayed")
    fit(repository, *options, "--run_name", "launched", "--model.cuda_graph", "false")
    replayed, launched = state("replayed"), state("launched")
    for part in ("global_step", "state_dict", "optimizer_states", "GameDataModule"):
        assert differences(replayed[part], launched[part], part) == []
    assert learned("replayed") == learned("launched")


@pytest.mark.slow
@pytest.mark.parametrize("n_layers", [1, 4])
def test_what_deterministic_mode_costs(folder: Path, repository: Path, n_layers: int) -> None:
    modes: dict[str, tuple[list[object], str]] = {
        "as it is": ([], ""),
        "deterministic": (["--trainer.deterministic", "true"], ""),
        "deterministic, memory not filled": (["--trainer.deterministic", "true"], UNFILLED),
    }
    # Both ends of the stretch are steps at which the log waits for the GPU.
    options = [*SHORT, "--trainer.log_every_n_steps", 50, "--trainer.max_steps", 500]
    options += ["--trainer.val_check_interval", 1000, "--model.n_layers", n_layers]
    times = {}
    for nth, (mode, (more, before)) in enumerate(modes.items()):
        fit(repository, *options, *more, "--run_name", f"mode{nth}", before=before)
        written = {step: time for step, _, time in scalars(f"mode{nth}")["train/loss"]}
        times[mode] = (written[500] - written[100]) / 400 * 1e3
    print(f"\n{n_layers} blocks, 512×64, ms a step:")
    for mode, ms in times.items():
        print(f"  {mode:34} {ms:7.2f}  {ms / times['as it is']:.2f} ×")
    # A step that falls back to something slow would be many times slower.
    assert times["deterministic"] < 2 * times["as it is"]


def test_keeping_fewer_activations_saves_memory_and_learns_the_same() -> None:
    losses, peaks, times = {}, {}, {}
    tokens = torch.randint(361, (512, 65), generator=torch.Generator().manual_seed(0)).cuda()
    for checkpoints in (False, True):
        torch.manual_seed(0)
        model = MambaModel(n_layers=4, scan="triton", checkpoint_activations=checkpoints).cuda()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def step(model: MambaModel = model, optimizer: Any = optimizer) -> torch.Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        losses[checkpoints] = torch.stack([step() for _ in range(10)])
        torch.cuda.reset_peak_memory_stats()
        step()
        peaks[checkpoints] = torch.cuda.max_memory_allocated() / 2**20
        runs = []
        for _ in range(3):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(20):
                step()
            torch.cuda.synchronize()
            runs.append((time.perf_counter() - began) / 20 * 1e3)
        times[checkpoints] = statistics.median(runs)
        del model, optimizer, step
    print("\nfour blocks, 512×64:")
    for checkpoints, name in ((False, "all activations kept"), (True, "checkpointed")):
        ms, peak = times[checkpoints], peaks[checkpoints]
        print(f"  {name:20} {ms:6.2f} ms a step, peak {peak:,.0f} MiB")
    print(f"  losses have the same bits: {torch.equal(losses[False], losses[True])}")
    torch.testing.assert_close(losses[True], losses[False], rtol=1e-4, atol=0)
    assert losses[True][-1] < losses[True][0]
    assert peaks[True] < 0.8 * peaks[False]
