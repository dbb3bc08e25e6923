"""Gradients of two processes are averaged, in a module where each has gradients of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from tessera.commands.fit.trainer_settings import has_several_processes
from tessera.training.module import TesseraModule
from tessera.training.shared_clock import SharedTimer
from tessera.training.strategy import GradientAveraging, allows_graphs
from tests.runs import python_path

ROOT = Path(__file__).parents[2]

# Of parameters all have, only one process has, nobody has, and of another dtype.
PROGRAM = """
import sys, torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from tessera.training.strategy import GradientAveraging

class Parts(LightningModule):
    def __init__(self, late=False):
        super().__init__()
        self.late = late
        self.both = nn.Parameter(torch.zeros(2, 3))
        self.one, self.nobody = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        self.wide = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("bound", torch.zeros(2))
        self.seen = []

    def training_step(self, batch, batch_idx):
        rank = self.trainer.global_rank
        loss = (rank + 1) * self.both.sum() + (3 * rank + 2) * self.wide.sum()
        if rank == 1:
            loss = loss + 8 * self.one.sum()
        if self.late and batch_idx == 1:
            loss = loss + self.nobody.sum()
        return loss

    def on_after_backward(self):
        self.seen.append({n: None if p.grad is None else p.grad.clone()
            for n, p in self.named_parameters()})

    def on_before_optimizer_step(self, optimizer):
        assert all(b.grad is None if a is None else torch.equal(a, b.grad)
            for a, b in zip(self.seen[-1].values(), self.parameters()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

def fit(module, **settings):
    strategy = GradientAveraging()
    trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, max_steps=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        **settings)
    rank = trainer.global_rank
    with torch.no_grad():
        module.both += rank * 5  # each begins elsewhere
        module.bound += rank * 5
    trainer.fit(module, torch.utils.data.DataLoader(range(8)))
    return trainer

module = Parts()
rank = fit(module, accumulate_grad_batches=2).global_rank
torch.save({"seen": module.seen, "weights": module.state_dict()}, f"parts{rank}.pt")
try:
    fit(Parts(late=True))
except RuntimeError as error:
    open(f"late{rank}.txt", "w").write(str(error))
torch.distributed.destroy_process_group()  # a process that ends may trip over its threads
"""


def test_parameters_without_gradients_and_of_any_dtype(folder: Path) -> None:
    (folder / "parts.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": python_path(ROOT)}
    command = [sys.executable, "-W", "ignore", "parts.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [torch.load(f"parts{rank}.pt", weights_only=True) for rank in (0, 1)]
    for rank, parts in enumerate(ranks):
        for nth in (0, 2):  # half of each loss: another batch follows
            own, average = parts["seen"][nth], parts["seen"][nth + 1]
            assert own["both"].tolist() == [[(rank + 1) / 2] * 3] * 2
            assert average["both"].tolist() == [[1.5] * 3] * 2
            assert average["wide"].tolist() == [3.5] * 2
            assert average["wide"].dtype == torch.float64
            assert (own["one"] is None) == (rank == 0) and average["one"].tolist() == [4.0] * 3
            assert own["nobody"] is average["nobody"] is None
        weights = parts["weights"]
        assert weights["both"].tolist() == [[-3.0] * 3] * 2 and weights["bound"].tolist() == [0, 0]
        assert weights["one"].tolist() == [-8.0] * 3 and weights["nobody"].tolist() == [0] * 3
        late = (folder / f"late{rank}.txt").read_text()
        assert "a parameter (3,) that had no gradient in any process has one now" in late


@pytest.mark.parametrize(
    ("devices", "nodes", "several"),
    [
        (1, 1, False),
        (2, 1, True),
        ("2", 1, True),
        ("auto", 1, False),
        ("-1", 1, False),
        (1, 2, True),
    ],
)
def test_how_many_processes_there_will_be_is_known_before(
    devices: object, nodes: int, several: bool
) -> None:
    settings = Namespace(accelerator="cpu", devices=devices, num_nodes=nodes)
    assert has_several_processes(settings) is several


def test_gpus_are_counted_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for devices, several in (("auto", True), (-1, True), ([3], False), ("0,2", True), (1, False)):
        settings = Namespace(accelerator="auto", devices=devices, num_nodes=1)
        assert has_several_processes(settings) is several


def test_only_where_nobody_listens_to_gradients_steps_are_replayed() -> None:
    assert allows_graphs(GradientAveraging()) and allows_graphs(SingleDeviceStrategy("cpu"))
    assert not allows_graphs(DDPStrategy())


@pytest.mark.parametrize(("is_first", "num_lines"), [(True, 1), (False, 0)])
def test_the_first_process_says_once_that_steps_are_not_replayed(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_first: bool,
    num_lines: int,
) -> None:
    trainer = SimpleNamespace(strategy=DDPStrategy(), is_global_zero=is_first)
    monkeypatch.setattr(TesseraModule, "trainer", trainer)
    module = TesseraModule(vocab_size=12, d_model=4)
    module._graph_training()
    assert module.model._graphs is None
    said = ["training steps are launched one kernel at a time with DDPStrategy"] * num_lines
    assert caplog.messages == said


def test_a_time_limit_keeps_its_settings_and_its_name_in_checkpoints() -> None:
    timer = SharedTimer.of(Timer("00:00:01:30"))
    assert timer.time_remaining() == 90
    assert timer.state_key == "Timer" and timer.state_dict().keys() == {"time_elapsed"}
