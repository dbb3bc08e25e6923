"""An objective of its own data, weights and memory: trained, saved and gone on with."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tessera.data import GameBatch, GameStream, MixedStream, StreamSettings
from tessera.model import GameModel
from tessera.training.checkpoint_parts import ContentError
from tessera.training.objectives import OBJECTIVES, Objective, ObjectiveSettings
from tessera.transfers import to_host
from tests.runs import fit, tessera
from tests.training.test_resume import STOPPER, stop_at


class Promise(NamedTuple):
    """A batch that is made when it is taken up."""

    index: int  # type: ignore[assignment]


class Fibonacci:
    """A stream whose every batch depends on the two before, and on nothing that comes later."""

    def __init__(self, games: GameStream | MixedStream) -> None:
        self.games, self.start_batch, self.numbers = games, 0, [1, 2]

    def __iter__(self) -> Iterator[Promise]:
        number = self.start_batch
        while True:
            yield Promise(number)
            number += 1

    def taken(self, batch: Promise) -> GameBatch:
        self.numbers = [self.numbers[1], sum(self.numbers) % 97]
        return self.games.batch(self.numbers[0])._replace(index=batch.index)


class Toy(Objective):
    """A bias for every token, learned beside the model, on games of the stream above."""

    def __init__(self, model: GameModel) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(model.vocab_size))
        self.numbers = [1, 2]
        self.own: Fibonacci | None = None
        self.heard: list[Any] = []
        self.newest: Tensor | None = None

    def loss(self, model: GameModel, batch: GameBatch) -> Tensor:
        logits = model(batch.inputs) + self.bias
        self.newest = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        return self.newest

    def figures(self, owner: str) -> dict[str, Tensor]:
        return {} if self.newest is None else {"toy_loss": to_host(self.newest.detach(), owner)}

    def measure(self, model: GameModel, batch: GameBatch) -> None:
        self.heard.append(batch.index)

    def measured(self) -> dict[str, Tensor]:
        return {"batches": torch.tensor(float(len(self.heard)))}

    def lr_at(self, step: int, schedule: Any) -> float:
        return 2 * schedule(step)

    def stream(self, games: GameStream | MixedStream) -> Fibonacci:
        self.own = Fibonacci(games)
        self.own.numbers = self.numbers
        return self.own

    def saved(self) -> dict[str, Any]:
        return {} if self.own is None else {"numbers": self.own.numbers}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.numbers = state["numbers"]

    def check_saved(self, state: Any, games: StreamSettings) -> None:
        if not isinstance(state, dict) or not isinstance(state.get("numbers"), list):
            raise ContentError("objective must have numbers")


@dataclass(frozen=True)
class ToySettings(ObjectiveSettings):
    def build(self, model: GameModel) -> Toy:
        return Toy(model)


@pytest.fixture(autouse=True)
def registered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "toy", ToySettings)
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)


def last(name: str = "small") -> Path:
    return Path(f"checkpoints/{name}/version_0/last.ckpt")


def state(name: str = "small") -> dict:
    return torch.load(last(name), weights_only=True)


def test_its_data_weights_and_memory_go_on_where_they_were(folder: Path) -> None:
    toy = ("--model.objective", "toy")
    assert fit(*toy, "--run_name", "whole") == 0
    assert fit(*toy, *stop_at(9, signal.SIGTERM)) == 143
    stopped = state()
    assert stopped["objective"]["numbers"] != [1, 2]
    assert stopped["hyper_parameters"]["objective"] == "toy"
    assert fit("--ckpt_path", "last") == 0
    whole, resumed = state("whole"), state()
    assert resumed["objective"] == whole["objective"]
    assert resumed["state_dict"]["objective.bias"].any()
    for name, weight in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name


def test_a_checkpoint_of_another_objective_or_memory_is_refused(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--model.objective", "toy", "--trainer.max_steps", 4) == 0
    capsys.readouterr()
    assert fit("--ckpt_path", "last", "--model.objective", "next_move") == 2
    told = capsys.readouterr().err
    wanted = f"model.objective must be toy to go on from {last()}, got next_move."
    assert told == f"tessera: {wanted}\n"
    checkpoint = state()
    del checkpoint["objective"]
    torch.save(checkpoint, last())
    assert fit("--ckpt_path", "last") == 2
    told = capsys.readouterr().err
    assert told == f"tessera: {last()} cannot be used: objective must have numbers.\n"


def test_one_that_keeps_nothing_writes_nothing_and_takes_nothing(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 2) == 0
    checkpoint = state()
    assert "objective" not in checkpoint
    del checkpoint["hyper_parameters"]["objective"]  # of a version that had but one
    torch.save(checkpoint, last())
    assert fit("--ckpt_path", "last", "--trainer.max_steps", 4) == 0
    torch.save({**checkpoint, "objective": {"numbers": [1]}}, last())
    capsys.readouterr()
    assert tessera("test", "--ckpt_path", last()) == 2
    assert "objective must hold nothing, got {'numbers': [1]}" in capsys.readouterr().err
