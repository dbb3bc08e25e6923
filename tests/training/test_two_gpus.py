"""Two GPUs, a process each: replayed steps are the steps, and no copy is without an owner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.training.two_processes import fit

FOUND = torch.cuda.device_count()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FOUND < 2, reason=f"needs two CUDA devices; torch finds {FOUND}"),
]

LOOK = ["--trainer.callbacks", '[{"class_path": "tests.training.two_processes.LookOnGPU"}]']
# Steps with a validation, a checkpoint and a log among them.
RECORD_ALL = ["--monitor.copies_every", "5", "--monitor.copies_steps", "5"]
RECORD_ALL += ["--monitor.copies_time_ratio", "1", "--trainer.log_every_n_steps", "10"]
OPTIONS = [*LOOK, *RECORD_ALL, "--trainer.max_steps", "60", "--trainer.precision", "bf16-mixed"]
SAID = "training steps are launched one kernel at a time with DDPStrategy"


@pytest.mark.parametrize("more", [["--data.context", "12"], ["--data.context", "null"]])
@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_replayed_or_not_two_gpus_learn_the_same_bits_and_copy_nothing_unowned(
    folder: Path, more: list[str], accumulate: str
) -> None:
    options = [*OPTIONS, *more, "--trainer.accumulate_grad_batches", accumulate]
    learned = []
    for name, graph in (("graphs", "true"), ("kernels", "false")):
        done = fit(name, 2, *options, "--model.cuda_graph", graph, accelerator="gpu")
        assert done.returncode == 0, done.stderr[-4000:]
        for sign in ("Warning", "[W", "design violation", "one kernel at a time", "one at a time"):
            assert sign not in done.stderr, done.stderr[-4000:]
        for rank in (0, 1):
            seen = json.loads(Path(f"gpu{rank}.json").read_text())
            assert seen["unowned"] == [] and seen["num_profiled_steps"] >= 40
            assert (seen["num_graphs"] > 0) == (graph == "true")
            learned.append(torch.load(f"gpu{rank}.pt", weights_only=True))
    for other in learned[1:]:
        assert all(torch.equal(weight, other[name]) for name, weight in learned[0].items())


def test_a_time_limit_asks_no_gpu_at_each_step(folder: Path) -> None:
    limit = ["--trainer.max_time", "00:01:00:00"]
    done = fit("limited", 2, *OPTIONS, *limit, accelerator="gpu")
    assert done.returncode == 0, done.stderr[-4000:]
    for rank in (0, 1):
        assert json.loads(Path(f"gpu{rank}.json").read_text())["unowned"] == []


def test_with_torchs_own_averaging_steps_are_not_replayed_which_is_said_once(folder: Path) -> None:
    strategy = "ddp_find_unused_parameters_true"
    done = fit("torchs", 2, *OPTIONS, strategy=strategy, accelerator="gpu")
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr.count(SAID) == 1
    assert json.loads(Path("gpu0.json").read_text())["num_graphs"] == 0
