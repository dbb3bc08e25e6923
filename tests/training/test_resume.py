"""An interrupted run that is resumed is the run that was not interrupted, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs import SMALL, fit, tessera

ACCUMULATE = ["--trainer.accumulate_grad_batches", "2"]

# What a user may hang into the trainer: here, someone who ends the process at a step.
STOPPER = """
import os
from lightning.pytorch import Callback

class StopAt(Callback):
    def __init__(self, batch: int, number: int):
        self.batch, self.number = batch, number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch.index == self.batch:
            if not self.number:
                raise ZeroDivisionError
            os.kill(os.getpid(), self.number)
"""


@pytest.fixture(autouse=True)
def stopper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(folder)


def stop_at(batch: int, number: int) -> list[str]:
    arguments = f'{{"batch": {batch}, "number": {int(number)}}}'
    callback = f'[{{"class_path": "stopper.StopAt", "init_args": {arguments}}}]'
    return ["--trainer.callbacks", callback]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders of runs that were not interrupted, with and without accumulated gradients."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for accumulates in (False, True):
            folder = folders[accumulates] = tmp_path_factory.mktemp("whole")
            patch.chdir(folder)
            (folder / "small.yaml").write_text(SMALL)
            assert fit(*(ACCUMULATE if accumulates else [])) == 0
    return folders


def last(folder: Path = Path()) -> Path:
    return folder / "checkpoints/small/version_0/last.ckpt"


def state(folder: Path = Path()) -> dict:
    return torch.load(last(folder), weights_only=True)


def curves(folder: Path = Path()) -> dict[str, list[tuple[int, float]]]:
    """Every scalar that was logged, but the speed and what the monitor measured of the machine."""
    logs = folder / "lightning_logs/small/version_0"
    log = EventAccumulator(str(logs), size_guidance={"scalars": 0})
    log.Reload()
    measured = ("train/tokens_per_s", "monitor/")
    tags = [tag for tag in log.Tags()["scalars"] if not tag.startswith(measured)]
    # Sorted: the files of two runs within one second are read in the order of "10" before "9".
    return {tag: sorted((event.step, event.value) for event in log.Scalars(tag)) for tag in tags}


def assert_same_weights(a: dict, b: dict) -> None:
    assert a["global_step"] == b["global_step"]
    assert a["GameDataModule"] == b["GameDataModule"]
    assert all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in b["state_dict"])
    moments = [x["optimizer_states"][0]["state"] for x in (a, b)]
    for index, moment in moments[0].items():
        assert torch.equal(moment["exp_avg"], moments[1][index]["exp_avg"])


# A chunk has eight batches, and a loader asks for a batch before the last one is trained on.
@pytest.mark.parametrize("stopped_in_batch", [7, 12], ids=["chunk begun early", "within a chunk"])
def test_games_of_the_model_against_itself_go_on_as_well(
    folder: Path, stopped_in_batch: int, capsys: pytest.CaptureFixture
) -> None:
    # Steps so large that games of other weights are other games.
    share = ["--data.selfplay_share", "0.5", "--model.lr", "0.3", "--model.warmup_steps", "1"]
    assert fit(*share, "--run_name", "whole") == 0
    assert fit(*share, *stop_at(stopped_in_batch, signal.SIGTERM)) == 143
    assert fit(*share, "--ckpt_path", last()) == 0
    resumed = state()
    uninterrupted = torch.load("checkpoints/whole/version_0/last.ckpt", weights_only=True)
    for name, weights in uninterrupted["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weights), name
    chunks = [x["GameDataModule"]["selfplay_weights"] for x in (resumed, uninterrupted)]
    assert chunks[0].keys() == chunks[1].keys() and len(chunks[0]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("stopped_in_batch", "number", "code", "accumulates"),
    [
        (4, signal.SIGTERM, 143, False),  # nowhere near a checkpoint
        (9, signal.SIGINT, 130, False),  # the batch after which validation is due
        (13, signal.SIGTERM, 143, True),
        (12, signal.SIGTERM, 143, True),
    ],
    ids=["SIGTERM", "Ctrl-C before validation", "end of a step", "between accumulated batches"],
)
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(
    whole: dict[bool, Path],
    stopped_in_batch: int,
    number: int,
    code: int,
    accumulates: bool,
    capsys: pytest.CaptureFixture,
) -> None:
    options = ACCUMULATE if accumulates else []
    capsys.readouterr()
    assert fit(*options, *stop_at(stopped_in_batch, number)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    told = [line for line in captured.err.splitlines() if line.startswith("tessera:")]
    assert len(told) == 1 and f"--ckpt_path {last()}" in told[0]
    stopped_after = (stopped_in_batch + 2) // 2 if accumulates else stopped_in_batch + 1
    assert state()["global_step"] == stopped_after
    assert fit(*options, "--ckpt_path", "last") == 0
    assert_same_weights(state(whole[accumulates]), state())
    assert curves(whole[accumulates]) == curves()
    assert [step for step, _ in curves()["train/loss"]] == list(range(1, 21))


def test_a_finished_run_goes_on_with_more_steps(
    whole: dict[bool, Path], capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 11) == 0
    assert fit("--trainer.max_steps", 20, "--ckpt_path", "last") == 0
    assert_same_weights(state(whole[False]), state())
    assert curves(whole[False]) == curves()
    capsys.readouterr()
    assert fit("--ckpt_path", "last") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"trainer.max_steps must be more than the 20 that {last()} has, got 20." in told


def test_a_crash_goes_on_from_the_last_checkpoint(whole: dict[bool, Path]) -> None:
    with pytest.raises(ZeroDivisionError):
        fit(*stop_at(16, 0))
    assert state()["global_step"] == 14
    assert fit("--ckpt_path", "last") == 0
    assert_same_weights(state(whole[False]), state())


def test_a_resumed_run_obeys_the_learning_rate_and_weight_decay_it_is_given() -> None:
    assert fit("--trainer.max_steps", 10) == 0
    assert fit("--ckpt_path", "last", "--model.lr", 0.5, "--model.weight_decay", 0.25) == 0
    rates = dict(curves()["train/lr"])
    assert rates[10] < 1e-3
    # Half a cosine over the steps 3 to 20.
    assert rates[11] == pytest.approx(0.5 * (0.1 + 0.9 * 0.6368), rel=1e-3)
    groups = state()["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]


def test_what_is_not_said_is_as_in_the_checkpoint(capsys: pytest.CaptureFixture) -> None:
    assert fit("--trainer.max_steps", 10, "--data.player", "uniform", "--model.lr", 0.125) == 0
    assert fit("--ckpt_path", "last") == 0
    assert state()["datamodule_hyper_parameters"]["player"] == "uniform"
    assert state()["hyper_parameters"]["lr"] == 0.125


def test_with_another_name_it_branches_off_and_leaves_the_run_as_it_is(
    whole: dict[bool, Path],
) -> None:
    assert fit("--trainer.max_steps", 10) == 0
    before = last().read_bytes()
    assert fit("--ckpt_path", last(), "--run_name", "branch") == 0
    assert last().read_bytes() == before
    branch = torch.load("checkpoints/branch/version_0/last.ckpt", weights_only=True)
    assert_same_weights(state(whole[False]), branch)
    # Its own name, or none but that of a configuration.
    assert fit("--ckpt_path", last(), "--run_name", "small", "--trainer.max_steps", 11) == 0
    Path("small.yaml").rename("other.yaml")
    assert tessera("fit", "--config", "other.yaml", "--ckpt_path", str(last())) == 0
    assert_same_weights(state(whole[False]), state())
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["branch", "small"]


@pytest.mark.parametrize("number", [signal.SIGINT, 0], ids=["Ctrl-C", "crash"])
def test_a_branch_that_makes_no_step_leaves_nothing(
    number: int, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 10) == 0
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    branch = ("--ckpt_path", last(), "--run_name", "branch", *stop_at(10, number))
    capsys.readouterr()
    if number:
        assert fit(*branch) == 130
        told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tessera:")]
        assert len(told) == 1 and "before the first step; resume: tessera fit" in told[0]
        assert "--run_name branch " in told[0] and told[0].endswith(f" --ckpt_path {last()}")
    else:
        with pytest.raises(ZeroDivisionError):
            fit(*branch)
    after = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    assert {path: own for path, own in after.items() if "__pycache__" not in path.parts} == before


def test_what_is_written_down_of_a_run_that_goes_on_names_it() -> None:
    assert fit("--trainer.max_steps", 10, "--run_name", "other") == 0
    path = Path("checkpoints/other/version_0/last.ckpt")
    assert fit("--trainer.max_steps", 12, "--ckpt_path", path) == 0
    written = Path("lightning_logs/other/version_0/config.yaml")
    assert "\nrun_name: other\n" in written.read_text()
    for nth, ckpt_path in enumerate((["--ckpt_path", "last"], ["--ckpt_path", path], [])):
        longer = ("--trainer.max_steps", 14 + 2 * nth)
        assert tessera("fit", "--config", written, *ckpt_path, *longer) == 0
        assert torch.load(path, weights_only=True)["global_step"] == 14 + 2 * nth
    assert [run.name for run in Path("checkpoints").glob("*/*")] == ["version_0"]


def test_resuming_something_else_is_refused_with_all_reasons(capsys: pytest.CaptureFixture) -> None:
    assert fit("--trainer.max_steps", 5) == 0
    before = last().read_bytes()
    capsys.readouterr()
    other = ["--data.board_size", 5, "--data.player", "uniform", "--data.seed", 1]
    assert fit("--ckpt_path", "last", *other, "--model.d_model", 16) == 2
    path = last()
    assert capsys.readouterr().err.splitlines() == [
        f"tessera: data.board_size must be 3 to go on from {path}, got 5.",
        f"tessera: model.d_model must be 8 to go on from {path}, got 16.",
        f"tessera: data.player must be rules to go on from {path}, got uniform.",
        f"tessera: data.seed must be 0 to go on from {path}, got 1.",
    ]
    assert path.read_bytes() == before


def test_a_second_run_leaves_the_first_alone() -> None:
    assert fit("--trainer.max_steps", 2) == 0
    before = last().read_bytes()
    assert fit("--trainer.max_steps", 3) == 0
    assert last().read_bytes() == before
    assert Path("checkpoints/small/version_1/last.ckpt").is_file()
    assert Path("lightning_logs/small/version_1/config.yaml").is_file()


@pytest.mark.parametrize(
    ("lr", "every", "reason"),
    [
        (1e37, 1, "a weight is not finite after step 6"),  # the loss before it still was
        (1e38, 100, "train/loss is not finite since step 7"),
    ],
)
def test_a_run_that_diverges_stops_in_one_line_and_keeps_its_checkpoint(
    lr: float, every: int, reason: str, capsys: pytest.CaptureFixture
) -> None:
    assert fit("--trainer.max_steps", 5) == 0
    before = last().read_bytes()
    capsys.readouterr()
    # A decay of more than all makes weights infinite in the step itself.
    decay = 1e9 if every == 1 else 0
    options = ["--model.lr", lr, "--model.weight_decay", decay]
    options += ["--checkpoint_every_n_steps", every]
    options += ["--trainer.log_every_n_steps", 50, "--trainer.gradient_clip_val", "null"]
    assert fit("--ckpt_path", "last", *options) == 1
    told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tessera:")]
    assert told == [
        f"tessera: {reason}; {last()} is as it was. Lower model.lr or trainer.gradient_clip_val."
    ]
    assert last().read_bytes() == before


def test_there_is_nothing_to_resume(capsys: pytest.CaptureFixture) -> None:
    assert fit("--ckpt_path", "last") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "there is no checkpoints/small/version_*/last.ckpt; give run_name" in told
    assert not Path("checkpoints").exists() and not Path("lightning_logs").exists()


def test_a_torn_checkpoint_is_refused_in_one_line(capsys: pytest.CaptureFixture) -> None:
    assert fit("--trainer.max_steps", 2) == 0
    last().write_bytes(last().read_bytes()[:-100])
    capsys.readouterr()
    for command in ("fit", "validate", "test"):
        assert tessera(command, "--config", "small.yaml", "--ckpt_path", "last") == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and "torn or no checkpoint" in told
