"""Training in several processes, as on several GPUs; here two, on the CPU."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]


def fit(name: str, devices: int, *options: str) -> subprocess.CompletedProcess[str]:
    """A run with a process of its own, which starts the others."""
    command = [sys.executable, "-m", "tessera", "fit", "--config", "small.yaml", *options]
    command += ["--run_name", name, "--trainer.devices", str(devices)]
    command += ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def weights(name: str, devices: int, *options: str) -> dict[str, Tensor]:
    """What a run has learned."""
    done = fit(name, devices, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    saved = torch.load(f"checkpoints/{name}/version_0/last.ckpt", weights_only=True)
    assert saved["global_step"] == int(options[1])
    return saved["state_dict"]


def test_two_processes_share_a_batch_and_resume_bit_for_bit(folder: Path) -> None:
    whole = weights("whole", 2, "--trainer.max_steps", "6")
    weights("halves", 2, "--trainer.max_steps", "3")
    halves = weights("halves", 2, "--trainer.max_steps", "6", "--ckpt_path", "last")
    assert all(torch.equal(weight, halves[name]) for name, weight in whole.items())
    # Each takes four sequences of a batch; in this stream none holds PAD, so the means are equal.
    alone = weights("alone", 1, "--trainer.max_steps", "6", "--data.batch_size", "8")
    for name, weight in whole.items():
        torch.testing.assert_close(weight, alone[name], rtol=0, atol=1e-5, msg=name)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The program's own lines of a run that failed in the way it should."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return [line for line in done.stderr.splitlines() if line.startswith("tessera:")]


@pytest.mark.slow
def test_a_full_disk_ends_all_processes_with_one_line(folder: Path) -> None:
    # The processes inherit it.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    # The monitor's checkpoint fails as well, at an alert, and the run goes on.
    alert = ["--monitor.state_every", "2", "--monitor.on_high", "checkpoint"]
    alert += ["--model.lr", "1", "--model.warmup_steps", "0", "--model.weight_decay", "0"]
    alert += ["--trainer.gradient_clip_val", "null", "--trainer.logger", "false"]
    try:
        done = fit("full", 2, "--checkpoint_every_n_steps", "12", *alert)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = told(done)
    assert "last.ckpt cannot be written (File too large); there is none before it." in line
    assert "monitor: no checkpoint was written" in done.stderr
    assert "step 20/20" not in done.stderr


POISON = """
from lightning.pytorch import Callback

class Poison(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 4:
            outputs["loss"] = outputs["loss"] * float("nan")
"""


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_process_ends_all_with_one_line(folder: Path) -> None:
    (folder / "poison.py").write_text(POISON)
    done = fit("poisoned", 2, "--trainer.callbacks", '[{"class_path": "poison.Poison"}]')
    (line,) = told(done)
    assert "train/loss is not finite since step 4; nothing was saved." in line
