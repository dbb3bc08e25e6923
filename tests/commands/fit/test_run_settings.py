"""Settings that cannot be run are refused by name before anything is written; others are obeyed."""

from __future__ import annotations

import io
import logging
import re
import shlex
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Timer

from tessera.commands.fit.closing import _longer, closing_lines, resume_command
from tessera.commands.fit.trainer_settings import spent_limits
from tessera.data import GameStream, StreamSettings
from tessera.training.metrics import NextMoveMetrics, metric_names
from tests.runs import fit, tessera

MONITORS = "--trainer.callbacks+={} --trainer.callbacks.monitor={}"
CPU_ONLY = pytest.mark.skipif(
    torch.cuda.is_available(), reason="says what is missing without a GPU"
)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("--trainer.limit_train_batches 0.5", "must be a whole number or null, got 0.5."),
        ("--trainer.limit_train_batches 0", "must be at least 1, got 0."),
        ("--trainer.limit_val_batches=-1", "must be at least 0, got -1."),
        ("--trainer.overfit_batches 1", "must be 0: training never sees a game twice; got 1."),
        ("--trainer.overfit_batches 0.1", "must be 0: training never sees a game twice; got 0.1."),
        ("--trainer.barebones true", "must be false: checkpoints and curves are part of a run"),
        ("--trainer.model_registry x", "must be null: checkpoints are files; got x."),
        ("--trainer.log_every_n_steps 0", "must be at least 1, got 0."),
        ("--trainer.accumulate_grad_batches 0", "must be at least 1, got 0."),
        ("--trainer.gradient_clip_val=-1", "must be at least 0, got -1.0."),
        ("--trainer.gradient_clip_val .nan", "must be a finite number, got nan."),
        ("--trainer.gradient_clip_algorithm x", "must be one of norm, value, got x."),
        ("--trainer.val_check_interval 0", "must be batches, at least 1, or DD:HH:MM:SS, got 0."),
        ("--trainer.val_check_interval 0.5", "must be batches, at least 1, or DD:HH:MM:SS, got 0"),
        ("--trainer.max_time soon", "must be DD:HH:MM:SS or null, got soon."),
        ("--trainer.max_time.parsecs 3", "must be DD:HH:MM:SS or null, got "),
        ("--trainer.max_epochs 3", "must be null or -1 where trainer.limit_train_batches is null"),
        ("--trainer.min_epochs 3", "must be null or -1 where trainer.limit_train_batches is null"),
        ("--trainer.check_val_every_n_epoch 2", "must be null or 1 where trainer.limit_train_b"),
        ("--trainer.devices 0", "must be a number of devices, a list of their numbers or auto"),
        ("--trainer.devices many", "must be a number of devices, a list of their numbers or auto"),
        ("--trainer.devices 1000 --trainer.accelerator cpu", "must be at most "),
        ("--trainer.num_nodes 0", "must be at least 1, got 0."),
        ("--trainer.accelerator tpu", "must be one of auto, cpu, gpu, cuda, got tpu."),
        ("--trainer.strategy ddp_spawn", "must be one of auto, ddp, ddp_find_unused_parameters_"),
        ("--trainer.precision transformer-engine", "must be one of 64, 32, 16, bf16, 64-true,"),
        ("--trainer.profiler xla", "must be one of simple, advanced, pytorch, got xla."),
        ("--trainer.fast_dev_run=-1", "must be at least 0, got -1."),
        (
            "--trainer.default_root_dir small.yaml",
            "must be a folder, and small.yaml is a f",
        ),
        ("--trainer.default_root_dir small.yaml/x/y", "must be a folder, and small.yaml is a fi"),
        ("--trainer.default_root_dir s3://x", "must be a folder of this machine, got s3://x."),
        (MONITORS.format("EarlyStopping", "val_loss"), "EarlyStopping monitors val_loss, which"),
        (MONITORS.format("ModelCheckpoint", "loss"), "ModelCheckpoint monitors loss, which is not"),
        ("--seed_everything=-1", "must be 0 to 4294967295, got -1."),
        ("--cpu_threads 1000000000", "must be 1 to 1024, got 1000000000."),
        ("--run_name " + "a" * 300, "must be at most 255 bytes long, got 300."),
        ("--model.n_layers 1000000000", "(=1000000000) must fit into the memory: the model would"),
        ("--model.d_model 1000000000", "(=1000000000) must fit into the memory: the model would"),
        ("--data.games_per_chunk 1" + "0" * 21, "must be less than 2^63, got one of 70 bits."),
        ("--data.seed " + "9" * 300, "must be less than 2^63, got one of 997 bits."),
        ("--trainer.limit_train_batches 1" + "0" * 21, "must be less than 2^63, got one of 70"),
        ("--data.selfplay_temperature .inf", "must be a finite number, got inf."),
        ("--defragmentation.only_above .nan", "must be a finite number, got nan."),
        ("--model.lr .inf", "must be a finite number, got inf."),
        ("--data.board_size 1000000000", "must be 2 to 19, got 1000000000."),
        ("--data.games_per_chunk 1" + "0" * 18, "must fit into the memory: a chunk of games would"),
        ("--data.context 1000000000000", "must fit into the memory: a chunk of games would need"),
        ("--data.max_moves 1000000000000", "must be at most 1000000000, got 1000000000000."),
        ("--data.max_moves 1000000000", "must fit into the memory: a chunk of games would need"),
        ("--data.val_batches 1000000000000", "must fit into the memory: the games of a validation"),
    ],
)
def test_a_setting_that_cannot_be_run_is_refused_by_name_and_leaves_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], given: str, line: str
) -> None:
    assert fit(*given.split()) == 2
    out, err = capfd.readouterr()
    option = re.match(r"--((trainer.)?\w+)", given)
    assert option and out == "" and err.count("\n") == 1, err
    assert err.startswith(f"tessera: {option[1]}") and line in err
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("option", ["--data.player", "--run_name", "--ckpt_path", "--model.scan"])
def test_a_value_of_two_lines_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], option: str
) -> None:
    for value in ("a\nb", "x" * 5000):
        assert fit(option, value) == 2
        err = capfd.readouterr().err
        assert err.startswith("tessera: ") and err.count("\n") == 1 and len(err) < 600
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_a_class_of_another_strategy_is_refused_with_what_is_accepted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.strategy", "{class_path: FSDPStrategy}") == 2
    assert capfd.readouterr().err == (
        "tessera: trainer.strategy must be one of auto, ddp, ddp_find_unused_parameters_false, "
        "ddp_find_unused_parameters_true or a class_path of DDPStrategy, got FSDPStrategy.\n"
    )
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


@CPU_ONLY
def test_what_needs_a_gpu_says_so(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert fit("--data.backend", "triton", "--model.scan", "triton") == 2
    assert capfd.readouterr().err.splitlines() == [
        "tessera: data.backend triton needs a CUDA device, got cpu; use auto or torch.",
        "tessera: model.mamba.scan must be auto or torch on cpu, got triton: Triton needs a CUDA "
        "device, got cpu.",
    ]
    assert fit("--trainer.accelerator", "gpu") == 2
    assert "accelerator must be cpu where torch finds no GPU" in capfd.readouterr().err
    assert fit("--trainer.devices", "[0]") == 2
    assert "devices must be a number of processes on a CPU, got [0]." in capfd.readouterr().err


def test_a_class_that_refuses_its_arguments_leaves_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = MONITORS.format("EarlyStopping", "val/loss --trainer.callbacks.mode up")
    assert fit(*wrong.split()) == 2
    err = capfd.readouterr().err
    assert err.startswith("tessera: ") and err.count("\n") == 1 and "`mode` can be" in err
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_a_callback_that_the_trainer_refuses_leaves_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.logger", "false", "--trainer.callbacks+=LearningRateMonitor") == 2
    err = capfd.readouterr().err
    assert err.startswith("tessera: Cannot use `LearningRateMonitor`") and err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_a_folder_that_was_there_is_left_where_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("checkpoints").mkdir()
    wrong = MONITORS.format("EarlyStopping", "val/loss --trainer.callbacks.mode up")
    assert fit(*wrong.split()) == 2
    assert sorted(path.name for path in Path().iterdir()) == ["checkpoints", "small.yaml"]
    assert list(Path("checkpoints").iterdir()) == []


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_weights_that_nobody_trained_are_not_measured(
    folder: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    for more in ([], ["--ckpt_path", ""])[command == "fit" :]:
        assert tessera(command, "--config", "small.yaml", *more) == 2
        told = "tessera: ckpt_path must name the model, or be last; got none.\n"
        assert capfd.readouterr().err == told


def test_predict_gives_games_in_order_and_refuses_several_devices(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.max_steps", 1) == 0
    Path("games.txt").write_text("A1\n")
    given = ["--config", "small.yaml", "--ckpt_path", "last", "--games", "games.txt"]
    capfd.readouterr()
    cpu = ["--trainer.accelerator", "cpu"]
    assert tessera("predict", *given, *cpu, "--trainer.devices", 2) == 2
    assert capfd.readouterr() == (
        "",
        "tessera: trainer.devices must be 1 for predict, which gives the games in order, got 2.\n",
    )
    assert tessera("predict", *given, *cpu, "--trainer.num_nodes", 2) == 2
    assert "got 1 on 2 nodes." in capfd.readouterr().err


def test_a_configuration_that_was_written_down_by_the_first_version_is_taken(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("old.yaml").write_text(Path("small.yaml").read_text() + "weights_only: null\n")
    assert tessera("fit", "--config", "old.yaml", "--trainer.max_steps", 1) == 0
    capfd.readouterr()
    assert fit("--weights_only", "false") == 2
    assert capfd.readouterr().err == "tessera: weights_only must be null, got False.\n"


def test_every_command_takes_one_device_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("fit", "validate", "test", "predict"):
        assert tessera(command, "--print_config") == 0
        assert "\n  devices: 1\n" in capsys.readouterr().out


def test_a_number_of_batches_is_a_number_of_batches(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Lightning's own option reads 1 as 1.0, all of them.
    assert fit("--trainer.limit_train_batches", 1, "--trainer.max_epochs", 2) == 0
    out = capsys.readouterr().out
    assert torch.load("checkpoints/small/version_0/last.ckpt")["global_step"] == 2
    again = ["--trainer.limit_train_batches", 1, "--trainer.max_epochs", 2]
    assert fit(*again, "--ckpt_path", "last") == 2
    assert "trainer.max_epochs must be more than the 2 that " in capsys.readouterr().err
    resume = next(line for line in out.splitlines() if line.startswith("resume:"))
    assert "--trainer.max_epochs 4" in resume and "--trainer.max_steps" not in resume
    assert tessera(*shlex.split(resume.removeprefix("resume:").strip())[1:]) == 0
    assert torch.load("checkpoints/small/version_0/last.ckpt")["global_step"] == 4


def test_a_dry_run_is_nothing_to_go_on_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--trainer.fast_dev_run", "true") == 0
    assert capsys.readouterr().out == "steps made: 1; nothing is kept\n"
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]
    assert fit("--trainer.max_steps", 3) == 0
    before = Path("checkpoints/small/version_0/last.ckpt").read_bytes()
    assert fit("--trainer.fast_dev_run", 2, "--ckpt_path", "last", "--trainer.max_steps", 9) == 0
    assert Path("checkpoints/small/version_0/last.ckpt").read_bytes() == before
    assert [path.name for path in Path("checkpoints/small").iterdir()] == ["version_0"]


def test_runs_lie_below_the_root_that_is_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--trainer.default_root_dir", "out/deep"]
    assert fit(*root, "--trainer.max_steps", 2) == 0
    out = capsys.readouterr().out
    assert "checkpoint: out/deep/checkpoints/small/version_0/last.ckpt\n" in out
    assert "tensorboard --logdir out/deep/lightning_logs\n" in out
    assert Path("out/deep/lightning_logs/small/version_0/config.yaml").is_file()
    assert fit(*root, "--trainer.max_steps", 4, "--ckpt_path", "last") == 0
    assert not Path("out/deep/checkpoints/small/version_1").exists()
    assert not Path("checkpoints").exists() and not Path("lightning_logs").exists()
    assert tessera("test", "--config", "small.yaml", *root, "--ckpt_path", "last") == 0


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ("--trainer.max_steps 0", ["steps made: 0; nothing is kept"]),
        ("--trainer.enable_checkpointing false", ["curves:     tensorboard --logdir lightning_l"]),
        (
            "--trainer.logger false",
            ["checkpoint: checkpoints/small/version_0/", "resume:     tess"],
        ),
        (
            "--trainer.logger false --trainer.enable_checkpointing false",
            ["steps made: 2; there is neither checkpoint nor curve"],
        ),
    ],
)
def test_the_closing_lines_name_what_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str], given: str, lines: list[str]
) -> None:
    assert fit("--trainer.max_steps", 2, *given.split()) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(told, lines, strict=True)), told


def test_a_time_that_is_spent_is_refused() -> None:
    settings = Namespace(max_steps=-1, max_epochs=None, max_time="00:00:01:00")
    checkpoint = {"global_step": 5, "callbacks": {"Timer": {"time_elapsed": {"train": 60.5}}}}
    assert spent_limits(settings, checkpoint, Path("x.ckpt")) == [
        "trainer.max_time must be more than the 00:00:01:00 that x.ckpt has, got 00:00:01:00."
    ]
    settings.max_time = {"minutes": 2}
    assert spent_limits(settings, checkpoint, Path("x.ckpt")) == []


def test_the_command_after_max_time_gives_more_time() -> None:
    class Done:
        max_steps, max_epochs, global_step, current_epoch, loggers = 100, -1, 50, 0, ()
        timer = Timer("00:01:00:30")
        callbacks = (timer,)

    Done.timer._offset = 3630
    assert closing_lines(Done, None, []) == ["steps made: 50; nothing is kept"]  # type: ignore[arg-type]
    assert _longer(Done) == ("--trainer.max_time", "00:02:01:00")  # type: ignore[arg-type]
    argv = ["fit", "--trainer.max_time", "00:01:00:30", "--trainer.max_time.hours=1", "--a", "b"]
    command = resume_command(argv, Path("x.ckpt"), "--trainer.max_time", "00:02:01:00")
    assert command == "tessera fit --a b --trainer.max_time 00:02:01:00 --ckpt_path x.ckpt"


def test_a_profile_that_is_asked_for_is_shown(folder: Path) -> None:
    console = logging.StreamHandler(io.StringIO())  # as Lightning's own, which this test can read
    logger = logging.getLogger("lightning.pytorch")
    logger.addHandler(console)
    try:
        assert fit("--trainer.max_steps", 2, "--trainer.profiler", "simple") == 0
    finally:
        logger.removeHandler(console)
    assert "run_training_batch" in console.stream.getvalue()


def test_metric_names_are_those_that_are_logged() -> None:
    settings = StreamSettings(board_size=9, batch_size=4, games_per_chunk=4, context=None)
    batch = GameStream(settings, needs=["legal"]).batch(0)
    metrics = NextMoveMetrics()
    metrics.update(torch.zeros(*batch.targets.shape, 84), batch)
    assert set(metrics.compute()) <= set(metric_names())
    assert len(metric_names()) == len(set(metric_names())) == 7 + 3 * (5 + 4)


def test_a_setting_of_a_part_that_is_not_chosen_is_said_to_do_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--model.attention.num_heads", "2", "--model.mamba.d_conv=3", "--model.lr", "0.01"]
    assert fit("--trainer.max_steps", 1, *typed) == 0
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "nothing" in line)
    beginning = "tessera: --model.attention.num_heads does nothing: it is of no part of the model"
    assert said == f"{beginning}, which has table, mamba, linear."
    typed_twice = ["--model.policy_gradient.pool", 3] * 2
    assert fit("--trainer.max_steps", 1, *typed_twice, "--run_name", "a") == 0
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "nothing" in line)
    beginning = "tessera: --model.policy_gradient.pool does nothing"
    assert said == f"{beginning}: the objective is next_move."
    Path("heads.yaml").write_text("model: {attention: {num_heads: 2}}")
    assert fit("--trainer.max_steps", 1, "--config", "heads.yaml", "--run_name", "b") == 0
    assert "does nothing" not in capsys.readouterr().err
    assert fit("--trainer.max_steps", 1, "--model.mixer", "attention", *typed[:2]) == 0
    assert "does nothing" not in capsys.readouterr().err
