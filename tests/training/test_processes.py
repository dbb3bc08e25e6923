"""Training in several processes, as on several GPUs; here two, on the CPU."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import SMALL
from tests.runs import fit as fit_here
from tests.training.two_processes import LOOK, SRUN, TORCHRUN, fit, weights

HARD = ["--trainer.accumulate_grad_batches", "2", "--trainer.gradient_clip_val", "0.02"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run of six steps in two processes, which write down what they see."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "small.yaml").write_text(SMALL)
    options = [*HARD, "--trainer.log_every_n_steps", "10", *LOOK]
    options += ["--trainer.max_time", "00:01:00:00"]
    options += ["--checkpoint_every_n_steps", "100", "--trainer.val_check_interval", "100"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = fit("watched", 2, "--trainer.max_steps", "6", *options)
    assert done.returncode == 0 and done.stderr.startswith("step 6/6 "), done.stderr
    assert len(done.stderr.splitlines()) == 1
    yield folder


def seen(folder: Path, rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights and gradients that one process has written down, and the rest."""
    tensors = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return tensors, json.loads((folder / f"rank{rank}.json").read_text())


def test_two_processes_share_a_batch(watched: Path, folder: Path) -> None:
    shared = seen(watched, 0)[0]["weights"]
    # Each takes four sequences of a batch; in this stream none holds PAD, so the means are equal.
    assert fit_here(*HARD, "--trainer.max_steps", 6, "--data.batch_size", 8) == 0
    alone = torch.load("checkpoints/small/version_0/last.ckpt", weights_only=True)["state_dict"]
    assert shared.keys() == alone.keys()
    for name, weight in shared.items():
        torch.testing.assert_close(weight, alone[name], rtol=0, atol=1e-5, msg=name)


def test_gradients_are_averaged_once_a_step_before_anybody_looks(watched: Path) -> None:
    (first, one_log), (second, other_log) = (seen(watched, rank) for rank in (0, 1))
    assert all(torch.equal(weight, second["weights"][n]) for n, weight in first["weights"].items())
    both = zip(first["backward"], second["backward"], strict=True)
    assert [all(map(torch.equal, *pair)) for pair in both] == [False, True] * 6
    assert len(first["step"]) == 6
    for nth, gradients in enumerate(first["step"]):
        assert all(map(torch.equal, gradients, first["backward"][2 * nth + 1]))
        assert torch.stack([gradient.norm() for gradient in gradients]).norm() > 0.02
    for log in (one_log, other_log):
        assert log["strategy"] == "GradientAveraging"
        # At the first step they also agree which parameters have gradients.
        assert log["sent"] == {"2": ["allreduce_"] * 2} | {
            str(batch): ["allreduce_"] for batch in (4, 6, 8, 10, 12)
        }
        assert set(log["copied"]) <= {"2"}


def test_a_run_that_torchrun_began_is_resumed_by_slurm_bit_for_bit(
    watched: Path, folder: Path
) -> None:
    weights("halves", 2, "3", *HARD, launcher=TORCHRUN, strategy="ddp")
    on_two_nodes = ["--trainer.num_nodes", "2", "--ckpt_path", "last"]
    halves = weights("halves", 1, "6", *HARD, *on_two_nodes, launcher=SRUN)
    for name, weight in seen(watched, 0)[0]["weights"].items():
        assert torch.equal(weight, halves[name]), name


def test_torchs_own_averaging_gives_the_same_bits(watched: Path, folder: Path) -> None:
    by_torch = weights("torch", 2, "6", *HARD, *LOOK, strategy="ddp_find_unused_parameters_true")
    assert seen(folder, 1)[1]["strategy"] == "DDPStrategy"
    for name, weight in seen(watched, 0)[0]["weights"].items():
        assert torch.equal(weight, by_torch[name]), name


@pytest.mark.slow
def test_both_processes_validate_and_end_by_the_clock_at_the_same_step(folder: Path) -> None:
    options = ["--trainer.max_steps", "100000", "--trainer.log_every_n_steps", "5"]
    options += ["--trainer.val_check_interval", "00:00:00:01", "--trainer.max_time", "00:00:00:10"]
    done = fit("limited", 2, *options, "--trainer.logger", "false")
    assert done.returncode == 0, done.stderr[-2000:]
    assert 3 <= done.stderr.count("validation at step ") <= 12
    saved = torch.load("checkpoints/limited/version_0/last.ckpt", weights_only=True)
    assert 0 < saved["global_step"] < 100000 and saved["global_step"] % 5 == 0


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
