"""What the version before the parts were exchangeable computed, and what this one makes of it.

``earlier/`` holds, for three models, a checkpoint after 6 steps, the loss of each of 12 steps of
one run, and the probabilities that the checkpoint gave a game. The commands below made them at
commit 9466dd0.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs import tessera

EARLIER = Path(__file__).parent / "earlier"
MODELS = {
    "one_block": "{d_model: 8, d_state: 4, expand: 3, warmup_steps: 2, decay_steps: 12}",
    "several_blocks": "{d_model: 8, d_state: 4, d_conv: 3, n_layers: 3, warmup_steps: 2, "
    "decay_steps: 12, checkpoint_activations: true}",
    "mamba2": "{mixer: mamba2, d_model: 8, d_state: 8, n_layers: 2, scan: torch, warmup_steps: 2, "
    "decay_steps: 12}",
}
CONFIG = """
trainer: {{max_steps: 12, log_every_n_steps: 1, val_check_interval: 6, accelerator: cpu}}
data: {{board_size: 3, max_moves: 12, batch_size: 4, context: 12, games_per_chunk: 16,
  windows_per_game: 1, val_batches: 1, selfplay_share: 0.5}}
model: {model}
checkpoint_every_n_steps: 6
picture_every_n_validations: 0
cpu_threads: 1
"""
GAME = "B2 A1 C3 B1 C1\n"


def losses(name: str, version: int = 0) -> dict[int, float]:
    """The loss of every step that a run wrote."""
    events = EventAccumulator(f"lightning_logs/{name}/version_{version}")
    events.Reload()
    return {event.step: event.value for event in events.Scalars("train/loss")}


def probabilities(checkpoint: Path, capsys: pytest.CaptureFixture) -> list[dict[str, float]]:
    """What a checkpoint expects at every ply of a game."""
    Path("game.txt").write_text(GAME)
    capsys.readouterr()
    asked = ("--ckpt_path", checkpoint, "--games", "game.txt", "--trainer.accelerator", "cpu")
    assert tessera("predict", *asked, "--cpu_threads", 1) == 0
    return [json.loads(line)["probabilities"] for line in capsys.readouterr().out.splitlines()]


def kind_of_machine() -> dict[str, str]:
    """What the last bits of a computation depend on."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def same(found: object, expected: object, made_on: dict[str, str]) -> bool:
    """Bit for bit on the same kind of machine; elsewhere sums may be taken in another order."""
    return found == (expected if made_on == kind_of_machine() else pytest.approx(expected, 1e-4))


@pytest.fixture(params=MODELS)
def earlier(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict]:
    """A model's name and what was computed; its checkpoint and configuration in this folder."""
    name = request.param
    Path(f"{name}.yaml").write_text(CONFIG.format(model=MODELS[name]))
    run = Path(f"checkpoints/{name}/version_0")
    run.mkdir(parents=True)
    shutil.copy(EARLIER / f"{name}.ckpt", run / "last.ckpt")
    return name, json.loads((EARLIER / f"{name}.json").read_text())


def test_the_same_configuration_has_the_same_losses(earlier: tuple[str, dict]) -> None:
    name, expected = earlier
    assert tessera("fit", "--config", f"{name}.yaml") == 0
    found = list(losses(name, version=1).values())
    assert same(found, expected["losses"], expected["made_on"])


def test_a_checkpoint_goes_on_with_the_same_losses(earlier: tuple[str, dict]) -> None:
    name, expected = earlier
    assert tessera("fit", "--config", f"{name}.yaml", "--ckpt_path", "last") == 0
    assert same(losses(name), dict(enumerate(expected["losses"][6:], 7)), expected["made_on"])


def test_a_checkpoint_predicts_the_same(
    earlier: tuple[str, dict], capsys: pytest.CaptureFixture
) -> None:
    name, expected = earlier
    found = probabilities(Path(f"checkpoints/{name}/version_0/last.ckpt"), capsys)
    assert len(found) == len(expected["probabilities"]) == 6
    for row, there in zip(found, expected["probabilities"], strict=True):
        assert same(row, there, expected["made_on"])
