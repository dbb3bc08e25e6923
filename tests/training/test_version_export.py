"""The versions of a run: files that stay, each what ``tessera export`` makes of its step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tessera.training.checkpoint_file import read_checkpoint
from tests.full_disk import files_of_at_most
from tests.runs import SMALL, fit, tessera

RUN = Path("checkpoints/small/version_0")


@pytest.fixture(autouse=True)
def small(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL)


def test_every_version_stays_and_is_what_export_makes_of_its_checkpoint(folder: Path) -> None:
    assert fit("--export_every_n_steps", 3, "--trainer.max_steps", 6) == 0
    names = ["last.ckpt", "step_0000003.safetensors", "step_0000006.safetensors"]
    assert sorted(path.name for path in RUN.iterdir()) == names
    given = ("--ckpt_path", RUN / "last.ckpt", "--output", "by_hand.safetensors")
    assert tessera("export", *given) == 0
    assert Path("by_hand.safetensors").read_bytes() == (RUN / names[2]).read_bytes()
    first, last = (read_checkpoint(RUN / name) for name in names[1:])
    assert first["global_step"] == 3 and last["global_step"] == 6
    assert not torch.equal(
        *(each["state_dict"]["model.embedding.weight"] for each in (first, last))
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
