"""The versions of a run: files that stay, each what ``tessera export`` makes of its step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tessera.training import version_export
from tessera.training.checkpoint_file import read_checkpoint, write_whole
from tessera.training.checkpoint_parts import ContentError
from tests.full_disk import files_of_at_most
from tests.runs import SMALL, fit, tessera

RUN = Path("checkpoints/small/version_0")


@pytest.fixture(autouse=True)
def small(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL)


def test_every_version_stays_and_is_what_export_makes_of_its_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[str]()

    def noted(path: Path, write: Callable[[Path], None]) -> None:
        written.append(path.name)
        write_whole(path, write)

    monkeypatch.setattr(version_export, "write_whole", noted)
    options = ("--trainer.max_steps", 7, "--trainer.accumulate_grad_batches", 2)
    assert fit("--export_every_n_steps", 3, *options) == 0
    # Once each, also if a batch comes by that is no step yet.
    assert written == ["step_0000003.safetensors", "step_0000006.safetensors"]
    # The same run, if it ends with the second of them.
    assert fit("--run_name", "shorter", *options, "--trainer.max_steps", 6) == 0
    names = ["last.ckpt", "step_0000003.safetensors", "step_0000006.safetensors"]
    assert sorted(path.name for path in RUN.iterdir()) == names
    last = "checkpoints/shorter/version_0/last.ckpt"
    given = ("--ckpt_path", last, "--output", "by_hand.safetensors")
    assert tessera("export", *given) == 0
    assert Path("by_hand.safetensors").read_bytes() == (RUN / names[2]).read_bytes()
    first, second = (read_checkpoint(RUN / name) for name in names[1:])
    assert first["global_step"] == 3 and second["global_step"] == 6
    assert not torch.equal(
        *(each["state_dict"]["model.embedding.weight"] for each in (first, second))
    )


def test_a_disk_that_takes_no_version_ends_the_run_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture
) -> None:
    with files_of_at_most(3000):
        assert fit("--export_every_n_steps", 3, "--trainer.logger", "false") == 1
    told = capfd.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"tessera: {RUN / 'step_0000003.safetensors'} cannot be written (")
    assert told.endswith("Mend that, then start again.")
    assert not list(RUN.glob("*.safetensors*"))


def test_a_model_that_has_diverged_is_no_version(
    folder: Path, capfd: pytest.CaptureFixture
) -> None:
    # A decay of more than all makes weights infinite in the step itself, the loss of which is not.
    options = ("--model.lr", 1e37, "--model.weight_decay", 1e9, "--trainer.log_every_n_steps", 50)
    options += ("--trainer.gradient_clip_val", "null", "--trainer.logger", "false")
    assert fit("--export_every_n_steps", 1, *options) == 1
    told = capfd.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("tessera: a weight is not finite after step ")
    for path in RUN.glob("*.safetensors"):
        weights = read_checkpoint(path)["state_dict"].values()
        assert all(weight.isfinite().all() for weight in weights), path


def test_a_model_that_no_file_can_hold_ends_the_run_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exported(*_: object) -> bytes:
        raise ContentError("a setting is no JSON")

    monkeypatch.setattr(version_export, "exported", exported)
    assert fit("--export_every_n_steps", 3, "--trainer.logger", "false") == 1
    told = capfd.readouterr().err.strip().splitlines()[-1]
    assert f"{RUN / 'step_0000003.safetensors'} cannot be written: a setting is no JSON" in told
