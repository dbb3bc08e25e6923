"""A run that is watched is the run that is not, and what goes wrong in it is told once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tessera.monitor import GameProbe, StateProbe
from tessera.monitor.metrics import METRICS
from tests.monitor.cards import NVML, OnCard, pretend_a_card
from tests.monitor.runs import LOGS, RecordedCopies, run, scalars
from tests.runs import SMALL, fit, tessera

# Every part of the monitor at work within twenty steps.
OFTEN = ["--monitor.state_every", 2, "--monitor.game_every", 3, "--monitor.memory_every", 5]
OFTEN += ["--monitor.summary_every", 10]
DIVERGE = ["--model.lr", 1, "--model.warmup_steps", 0, "--model.weight_decay", 0]
DIVERGE += ["--trainer.gradient_clip_val", "null"]


def learned() -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """The losses and the last weights of the newest run."""
    logs = max(Path("lightning_logs/small").iterdir())
    checkpoint = torch.load(
        f"checkpoints/small/{logs.name}/last.ckpt", map_location="cpu", weights_only=True
    )
    return scalars(logs)["train/loss"], checkpoint["state_dict"]


def assert_same(a: Any, b: Any) -> None:
    assert a[0] == b[0] and len(a[0]) == 20
    assert all(torch.equal(a[1][name], b[1][name]) for name in b[1])


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run without a monitor learns."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("unwatched")
        patch.chdir(folder)
        (folder / "small.yaml").write_text(SMALL)
        monitor = run("--monitor.enabled", "false", "--defragmentation.enabled", "false")
        assert monitor.latest == {} and monitor.transfers.num == 0
        assert not any(tag.startswith("monitor/") for tag in scalars())
        return learned()


def test_losses_and_weights_are_bit_for_bit_those_without_a_monitor(
    folder: Path, unwatched: Any, capsys: pytest.CaptureFixture
) -> None:
    monitor = run(*OFTEN)
    assert_same(learned(), unwatched)
    assert monitor.alerts == [] and "ALERT" not in capsys.readouterr().err
    # And it did measure.
    for name in ("ssm_state_norm", "move_number", "legal_moves_count", "time_transfer"):
        assert name in monitor.latest
    assert set(monitor.latest) | set(monitor.why_absent) == set(METRICS)
    assert not set(monitor.latest) & set(monitor.why_absent)
    assert monitor.why_absent["vram_used_mb"] == "cpu has no GPU memory"


def test_of_attention_alone_there_is_no_recurrent_state_and_all_else_is_measured(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    monitor = run(*OFTEN, "--model.mixer", "attention", "--monitor.summary_every", 20)
    why = "none of the model's mixers shows a recurrent state"
    told = [line for line in capsys.readouterr().err.splitlines() if "ssm_state" in line]
    assert told == [f"  absent: {', '.join(StateProbe.metrics)} ({why})"]
    assert not any("ssm_state" in tag for tag in scalars()) and monitor.alerts == []
    measured = {"time_forward", "time_transfer", "move_number", "legal_moves_count"}
    assert measured <= set(monitor.latest)
    assert {monitor.why_absent[name] for name in StateProbe.metrics} == {why}


class Order(Callback):
    """The names of the run's callbacks, in the order in which they are called."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.names = [type(callback).__name__ for callback in trainer.callbacks]


def test_the_monitor_works_before_those_that_wait_for_the_gpu(folder: Path) -> None:
    order = Order()
    run("--trainer.max_steps", 1, callbacks=(order,))
    waiting = ("RunProgress", "Throughput", "TrainingCheckpoint")
    assert all(order.names.index("TesseraMonitor") < order.names.index(name) for name in waiting)


def test_every_metric_is_sampled_as_often_as_was_said(folder: Path) -> None:
    run("--monitor.state_every", 4, "--monitor.game_every", 5, "--monitor.timing_every", 3)
    steps = {tag: sorted(found) for tag, found in scalars().items()}
    assert steps["monitor/ssm_state_norm"] == [4, 8, 12, 16, 20]
    assert steps["monitor/ssm_state_delta_norm"] == [8, 12, 16, 20]
    assert steps["monitor/legal_moves_count"] == [5, 10, 15, 20]
    assert steps["monitor/time_forward"] == [3, 6, 9, 12, 15, 18]
    assert steps["monitor/time_transfer"] == [3, 6, 9, 12, 15, 18]


def test_with_accumulated_gradients_a_step_is_still_one_sample(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, begun = StateProbe.begin, []

    def begin(self: StateProbe) -> None:
        begun.append(self)
        original(self)

    monkeypatch.setattr(StateProbe, "begin", begin)
    run("--trainer.accumulate_grad_batches", 2, "--monitor.state_every", 5)
    assert sorted(scalars()["monitor/ssm_state_norm"]) == [5, 10, 15, 20]
    assert len(begun) == 4


def test_what_is_not_wanted_is_absent_and_says_why(folder: Path) -> None:
    monitor = run("--monitor.state_every", 0, "--monitor.game_every", 0)
    assert monitor.why_absent["ssm_state_norm"] == "monitor.state_every is 0"
    assert monitor.why_absent["move_number"] == "monitor.game_every is 0"
    assert "time_forward" in monitor.latest


def test_a_summary_is_a_table_of_everything_since_the_last(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    run(*OFTEN)
    told = capsys.readouterr().err
    assert "monitor, steps 1 to 10 " in told and "monitor, steps 11 to 20 " in told
    assert "\033" not in told
    (line,) = [x for x in told.split("steps 11 to 20")[1].splitlines() if "move_number" in x]
    # The samples at steps 12, 15 and 18, before which there were those at steps 3, 6 and 9.
    assert line.split() == ["move_number", "3", "4", "5"]


def test_faults_in_the_settings_are_told_together(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    wrong = ["--monitor.state_every=-1", "--monitor.copies_steps", 0, "--monitor.copies_every", 0]
    wrong += ["--monitor.copies_time_ratio", 2, "--defragmentation.every_n_steps", 0]
    wrong += ["--defragmentation.only_above", 0.5]
    assert fit(*wrong) == 2
    assert capsys.readouterr().err.splitlines() == [
        "tessera: monitor.state_every must be at least 0, got -1.",
        "tessera: monitor.copies_steps must be at least 1, got 0.",
        "tessera: monitor.copies_time_ratio must be above 0 and at most 1, got 2.0.",
        "tessera: defragmentation.every_n_steps must be at least 1, got 0.",
        "tessera: defragmentation.only_above must be at least 1, got 0.5.",
    ]
    assert fit("--monitor.copies_every", 2) == 2
    assert "monitor.copies_every must be 0 or at least" in capsys.readouterr().err
    assert fit("--monitor.on_high", "panic") == 2
    assert "monitor.on_high must be one of warn, checkpoint, stop" in capsys.readouterr().err


def test_the_run_tells_the_monitor_its_rules_and_its_own_settings_are_shown(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    monitor = run("--data.ko", "simple")
    assert monitor.board_size == 3
    assert monitor.rules.ko == "simple" and monitor.rules.max_moves == 12
    capsys.readouterr()
    assert tessera("fit", "--print_config") == 0
    shown = capsys.readouterr().out
    assert "state_every: 10" in shown and "only_above: null" in shown
    # One file serves all commands.
    settings = LOGS / "config.yaml"
    assert "monitor:" in settings.read_text()
    assert tessera("validate", "--config", settings, "--ckpt_path", "last") == 0


# A state that diverges, for a real reason: a huge learning rate.


def test_a_diverging_state_is_one_alert_everywhere(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    monitor = run(*OFTEN, *DIVERGE)
    (alert,) = monitor.alerts
    assert (alert.metric, alert.severity, alert.threshold) == ("ssm_state_norm", "high", 100.0)
    assert alert.value > 100
    told = [line for line in capsys.readouterr().err.splitlines() if "ALERT" in line]
    assert told == [f"ALERT at step {alert.step}: {alert.message}"]
    (line,) = (LOGS / "alerts.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["step"], record["metric"]) == (alert.step, "ssm_state_norm")
    assert record["value"] == pytest.approx(alert.value)
    log = EventAccumulator(str(LOGS))
    log.Reload()
    (text,) = log.Tensors("monitor/alerts/text_summary")
    assert alert.message.encode() in text.tensor_proto.string_val[0]
    assert scalars()["monitor/num_alerts"] == {alert.step: 1.0}


def test_an_alert_may_stop_the_run(folder: Path, capsys: pytest.CaptureFixture) -> None:
    monitor = run(*OFTEN, *DIVERGE, "--monitor.on_high", "stop")
    (alert,) = monitor.alerts
    checkpoint = torch.load("checkpoints/small/version_0/last.ckpt", weights_only=True)
    # On a GPU a figure is read one step after its sample.
    assert checkpoint["global_step"] == alert.step < 20
    assert f"the run stops after step {alert.step}" in capsys.readouterr().err


def test_an_alert_may_write_a_checkpoint_that_can_be_resumed(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    monitor = run(*OFTEN, *DIVERGE, "--monitor.on_high", "checkpoint")
    path = Path("checkpoints/small/version_0/alert-ssm_state_norm.ckpt")
    assert f"monitor: checkpoint {path}" in capsys.readouterr().err
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["global_step"] == monitor.alerts[0].step
    assert fit("--ckpt_path", path, "--monitor.enabled", "false") == 0


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    class Block(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            # A folder of that name cannot be replaced by a file.
            Path("checkpoints/small/version_0/alert-ssm_state_norm.ckpt/x").mkdir(parents=True)

    run(*OFTEN, *DIVERGE, "--monitor.on_high", "checkpoint", callbacks=(Block(),))
    assert "monitor: no checkpoint was written" in capsys.readouterr().err


def test_copies_that_nobody_owns_are_one_alert_that_names_them(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.monitor.windows.CopyProbe", RecordedCopies)
    often = ["--monitor.copies_every", 4, "--monitor.copies_steps", 2]
    monitor = run(*often, "--monitor.copies_time_ratio", 1)
    # The steps 9 and 10, 13 and 14, 17 and 18.
    assert monitor.num_profiled_steps == 6
    assert monitor.unowned_copies == 3 * [RecordedCopies.copy]
    assert scalars()["monitor/unowned_copies"] == {10: 1, 14: 1, 18: 1}
    (alert,) = monitor.alerts
    assert (alert.metric, alert.severity) == ("unowned_copies", "design violation")
    assert "DtoH of 4 bytes in 0.0020 ms by aten::to > aten::copy_" in alert.message
    assert alert.message in capsys.readouterr().err


def test_a_step_that_is_recorded_is_not_timed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.monitor.windows.CopyProbe", RecordedCopies)
    run("--monitor.copies_steps", 3, "--monitor.copies_every", 100)
    assert not {9, 10, 11} & set(scalars()["monitor/time_forward"])


# What fails in the monitor leaves the run alone.


def complaints(capsys: pytest.CaptureFixture) -> list[str]:
    told = capsys.readouterr().err.splitlines()
    return [line for line in told if line.startswith(("monitor:", "tessera:"))]


@pytest.mark.parametrize(
    ("probe", "method", "lost"),
    [
        (GameProbe, "end", "move_number"),
        (GameProbe, "__init__", "move_number"),
        (StateProbe, "end", "ssm_state_norm"),
    ],
)
def test_a_probe_that_fails_is_one_line_and_the_same_losses(
    folder: Path,
    unwatched: Any,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    probe: type,
    method: str,
    lost: str,
) -> None:
    original, calls = getattr(probe, method), []

    def failing(self: Any, *arguments: Any) -> Any:
        calls.append(None)
        if len(calls) > 3 or method == "__init__":
            raise RuntimeError("out of order")
        return original(self, *arguments)

    monkeypatch.setattr(probe, method, failing)
    monitor = run(*OFTEN)
    assert_same(learned(), unwatched)
    (line,) = complaints(capsys)
    assert lost in line and "out of order" in line
    assert lost not in monitor.latest and "out of order" in monitor.why_absent[lost]
    assert "time_forward" in monitor.latest


@pytest.mark.parametrize("fails_at", [1, 5])
def test_nvml_missing_or_failing_in_the_middle_is_one_line_and_the_same_losses(
    folder: Path,
    unwatched: Any,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fails_at: int,
) -> None:
    pretend_a_card(monkeypatch)
    monkeypatch.setitem(sys.modules, "pynvml", NVML(fails_at))
    monkeypatch.setattr("tessera.monitor.station.MemoryProbe", OnCard)
    monitor = run(*OFTEN)
    assert_same(learned(), unwatched)
    told = capsys.readouterr().err
    assert told.count("NVML cannot be read") == 1
    assert monitor.latest["vram_used_mb"] == 750  # from the CUDA runtime
    # The run itself goes on to be watched: the card is three quarters full, which is fine.
    assert [alert.metric for alert in monitor.alerts] == (
        ["vram_used_ratio"] if fails_at == 5 else []
    )


class Spoil(Callback):
    """Makes the run's log folder useless after its first step."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step != 1:
            return
        if self.how == "deleted":
            shutil.rmtree(LOGS)
        else:
            # Nobody, not even root, can write to a file that is a folder.
            (LOGS / "alerts.jsonl").mkdir()


# TensorBoard's writer fails in a thread of its own before it fails in ours.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("how", ["deleted", "read-only"])
def test_a_log_folder_that_is_gone_or_cannot_be_written_is_one_line_each(
    folder: Path, capsys: pytest.CaptureFixture, how: str
) -> None:
    monitor = run(*OFTEN, *DIVERGE, callbacks=(Spoil(how),))
    assert len(monitor.alerts) == 1
    told = complaints(capsys)
    expected = [f"{LOGS}:", "alerts.jsonl"] if how == "deleted" else ["alerts.jsonl"]
    assert [line.split()[1] for line in told] == expected, told
    weights = torch.load("checkpoints/small/version_0/last.ckpt", weights_only=True)["state_dict"]
    assert fit(*DIVERGE, "--monitor.enabled", "false", "--run_name", "other") == 0
    other = torch.load("checkpoints/other/version_0/last.ckpt", weights_only=True)["state_dict"]
    for name, weight in weights.items():
        assert torch.equal(weight, other[name])
