"""Whatever a checkpoint holds, it is used or refused in one line, before anything is made."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.training.checkpoint_content import check_content
from tessera.training.checkpoint_file import CheckpointError, read_checkpoint, write_checkpoint
from tests.runs import SMALL, fit, tessera

NAN = math.nan
Checkpoint = dict[str, Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What a short run saves, with chunks of games that the model played itself."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "small.yaml").write_text(SMALL)
        assert fit("--trainer.max_steps", 3, "--data.selfplay_share", 0.5) == 0
    return read_checkpoint(folder / "checkpoints/small/version_0/last.ckpt")


@pytest.fixture
def checkpoint(written: Checkpoint) -> Checkpoint:
    return copy.deepcopy(written)


def refusal(checkpoint: Checkpoint, is_fit: bool) -> str | None:
    """What is said of a checkpoint; None if nothing."""
    try:
        check_content(Path("x.ckpt"), checkpoint, is_fit)
    except CheckpointError as error:
        line = str(error)
        assert line.startswith("x.ckpt cannot be used: ") and line.endswith(".")
        assert "\n" not in line and len(line) < 300
        return line.removeprefix("x.ckpt cannot be used: ")
    return None


def at(*path: Any) -> Callable[[Checkpoint, Any], None]:
    """Sets what lies at the end of a path through dicts and lists; ``GONE`` takes it away."""

    def change(checkpoint: Checkpoint, value: Any) -> None:
        *way, last = path
        part: Any = checkpoint
        for key in way:
            part = part[key]
        if value is GONE:
            del part[last]
        else:
            part[last] = value

    return change


GONE = object()
HYPER, DATA, WEIGHTS = "hyper_parameters", "datamodule_hyper_parameters", "state_dict"
BIAS = "model.head.bias"
MOMENT = ("optimizer_states", 0, "state", 0)
GROUP = ("optimizer_states", 0, "param_groups", 0)
FIT_LOOP = ("loops", "fit_loop")
OPTIMIZER_LOOP = (*FIT_LOOP, "epoch_loop.automatic_optimization.optim_progress", "optimizer")
STREAM = "GameDataModule"

# What a measurement uses, so every command refuses it.
ALWAYS: list[tuple[tuple, Any, str]] = [
    (("pytorch-lightning_version",), GONE, "pytorch-lightning_version must be 2.0 or more"),
    (("pytorch-lightning_version",), "1.9.5", "must be 2.0 or more, got '1.9.5'"),
    (("pytorch-lightning_version",), "two", "must be 2.0 or more, got 'two'"),
    ((HYPER,), [1], "hyper_parameters must hold settings by name, got [1]"),
    ((HYPER,), None, "hyper_parameters must hold settings by name, got None"),
    ((HYPER, "width"), 8, "model.width is no setting of this version"),
    ((HYPER, "wi\ndth"), 8, "model.wi dth is no setting of this version"),
    ((HYPER, 3), 8, "model.3 is no setting of this version"),
    ((HYPER, "d_model"), "8", "model.d_model must be a whole number, got '8'"),
    ((HYPER, "d_model"), 8.0, "model.d_model must be a whole number, got 8.0"),
    ((HYPER, "d_model"), True, "model.d_model must be a whole number, got True"),
    ((HYPER, "d_model"), -8, "d_model must be a whole number of at least 1, got -8"),
    ((HYPER, "d_model"), 16, "must have the shape (12, 16), got (12, 8)"),
    ((HYPER, "d_model"), 10**12, "model.d_model is 1000000000000, too much for the weights"),
    ((HYPER, "n_layers"), 10**9, "model.n_layers is 1000000000, too much for the weights"),
    ((HYPER, "n_layers"), 2, "state_dict lacks model.blocks."),
    ((HYPER, "mamba", "expand"), 10**30, "model.mamba.expand is 10"),
    ((HYPER, "mamba", "width"), 8, "model.mamba.width is no setting of this version"),
    ((HYPER, "mamba"), 8, "hyper_parameters mamba must hold settings by name, got 8"),
    ((HYPER, "mixer"), "os.system", "its os.system is used only if the command line or a file"),
    ((HYPER, "mixer"), ["mamba", 3], "model.mixer must be a list of texts or text, got"),
    ((HYPER, "mixer"), "attentive", "mixer must be mamba, mamba2"),
    ((HYPER, "own"), {"a.B": 3}, "model.own must be settings by name, got"),
    ((HYPER, "mamba", "scan"), "fast", "model.mamba.scan must be one of auto, triton, mamba_ssm"),
    ((HYPER, "mamba", "scan"), torch.ones(3), "model.mamba.scan must be one of auto, triton"),
    ((HYPER, "decay_steps"), "x", "model.decay_steps must be a whole number or null, got 'x'"),
    ((HYPER, "lr"), NAN, "model.lr must be a number, got nan"),
    ((HYPER, "lr"), 10**400, "model.lr must be a number, got 1"),
    ((HYPER, "lr"), -1.0, "model.lr must be more than 0, got -1.0"),
    ((HYPER, "lr"), torch.ones(2, 2), "model.lr must be a number, got tensor("),
    ((HYPER, "vocab_size"), 84, "model.vocab_size must be 12 on a 3×3 board, got 84"),
    ((DATA,), 3, "datamodule_hyper_parameters must hold settings by name, got 3"),
    ((DATA, "size"), 3, "data.size is no setting of this version"),
    ((DATA, "board_size"), 5, "model.vocab_size must be 28 on a 5×5 board, got 12"),
    ((DATA, "board_size"), 10**9, "data.board_size must be 2 to 19, got 1000000000"),
    ((DATA, "komi"), "six", "data.komi must be a number or null, got 'six'"),
    ((DATA, "batch_size"), 0, "data.batch_size must be at least 1, got 0"),
    ((DATA, "rules"), "chess", "data.rules must be one of full, phase2, tromp-taylor, got chess"),
    ((WEIGHTS,), GONE, "state_dict must hold weights by name, got None"),
    ((WEIGHTS,), {}, "state_dict must hold weights by name, got {}"),
    ((WEIGHTS,), [torch.ones(3)], "state_dict must hold weights by name, got [tensor("),
    ((WEIGHTS, BIAS), GONE, f"state_dict lacks {BIAS}"),
    ((WEIGHTS, "model.more"), torch.ones(1), "state_dict has model.more, which the model has not"),
    ((WEIGHTS, BIAS), torch.ones(13), f"{BIAS} must have the shape (12,), got (13,)"),
    ((WEIGHTS, BIAS), torch.ones(12).int(), f"{BIAS} must be a floating-point tensor"),
    ((WEIGHTS, BIAS), torch.ones(12).to_sparse(), f"{BIAS} must be a floating-point tensor"),
    ((WEIGHTS, BIAS), torch.ones(12, device="meta"), f"{BIAS} must be a floating-point tensor"),
    ((WEIGHTS, BIAS), [0.0] * 12, f"{BIAS} must be a floating-point tensor, got [0.0,"),
    ((WEIGHTS, BIAS), torch.full((12,), NAN), f"state_dict {BIAS} is not finite"),
    ((WEIGHTS, BIAS), torch.full((12,), math.inf), f"state_dict {BIAS} is not finite"),
    (("global_step",), -5, "global_step must be a whole number of at least 0, got -5"),
    (("global_step",), 3.0, "global_step must be a whole number of at least 0, got 3.0"),
    (("global_step",), 4, "global_step must be 3, the steps that its loops have counted, got 4"),
    (("loops",), None, "loops must hold counts by name, got None"),
    (("loops", "validate_loop"), GONE, "loops lacks validate_loop"),
    ((*OPTIMIZER_LOOP, "step", "total", "completed"), -1, "completed must be a whole number of"),
    ((*FIT_LOOP, "epoch_progress"), 3, "loops fit_loop epoch_progress must hold counts by name"),
    ((*FIT_LOOP, "epoch_loop.batch_progress", "is_last_batch"), 1, "must be true or false, got 1"),
    (("callbacks",), [], "callbacks must be a dict, got []"),
    (("callbacks",), {"EarlyStopping": 3}, "callbacks EarlyStopping must be a dict, got 3"),
    (("callbacks",), {"Timer": {}}, "callbacks Timer must say its seconds, got None"),
    ((STREAM,), 7, "GameDataModule must hold counts by name, got 7"),
    ((STREAM, "batches_trained"), -7, "batches_trained must be a whole number of at least 0"),
    ((STREAM, "batches_trained"), 10**18, "must leave the games of training, of which there are"),
    ((STREAM, "batches_trained"), GONE, "GameDataModule lacks batches_trained"),
    ((STREAM, "batches_per_chunk"), 0, "batches_per_chunk must be a whole number of at least 1"),
    ((STREAM, "games_that_fit"), "all", "games_that_fit must be a whole number of at least 1"),
    ((STREAM, "selfplay_weights"), [], "GameDataModule selfplay_weights must be a dict, got []"),
    ((STREAM, "selfplay_weights", 0), [1], "selfplay_weights 0 must hold weights by name, got [1]"),
    ((STREAM, "selfplay_weights", -1), {}, "a chunk of GameDataModule selfplay_weights must be"),
    ((STREAM, "selfplay_weights", 0, "head.bias"), torch.ones(3), "head.bias must have the shape"),
    (("MixedPrecision",), {}, "MixedPrecision lacks _growth_tracker"),
    (("MixedPrecision",), {"_growth_tracker": 0}, "MixedPrecision scale must be a number of at"),
]

# What only training goes on from.
ONLY_FIT: list[tuple[tuple, Any, str]] = [
    (("global_step",), GONE, "it has no global_step, so it can be measured but not trained on"),
    (("loops",), GONE, "it has no loops, so it can be measured but not trained on"),
    (("optimizer_states",), GONE, "it has no optimizer_states, so it can be measured"),
    (("lr_schedulers",), GONE, "it has no lr_schedulers, so it can be measured"),
    (("lr_schedulers",), None, "lr_schedulers must be an empty list, got None"),
    (("lr_schedulers",), [{}], "lr_schedulers must be an empty list, got [{}]"),
    ((STREAM,), GONE, "it has no GameDataModule, so it can be measured"),
    (("optimizer_states",), [], "optimizer_states must be those of one optimizer, got []"),
    (("optimizer_states", 0), 1, "optimizer_states must be those of one optimizer, got [1]"),
    (GROUP[:3], [], "optimizer_states must have 2 groups, got []"),
    ((*GROUP, "params"), [0, 1], "group 0, must be of the parameters 0 to 5"),
    ((*GROUP, "betas"), GONE, "group 0, lacks betas"),
    ((*GROUP, "betas"), (0.9, 2.0), "must have betas (0.9, 0.999), got (0.9, 2.0)"),
    ((*GROUP, "amsgrad"), True, "must have amsgrad False, got True"),
    ((*GROUP, "lr"), None, "lr must be a number of at least 0, got None"),
    ((*GROUP, "fused"), "yes", "fused must be a bool or None, got 'yes'"),
    ((*GROUP[:3], 1, "weight_decay"), 0.5, "group 1, must have weight_decay 0.0, got 0.5"),
    (MOMENT[:3], {}, "optimizer_states 0 must hold moments by name, got None"),
    (MOMENT[:3], None, "optimizer_states must hold moments by parameter, got None"),
    (MOMENT, GONE, "optimizer_states 0 must hold moments by name, got None"),
    ((*MOMENT, "exp_avg"), torch.ones(3), "optimizer_states 0 exp_avg must have the shape"),
    ((*MOMENT, "exp_avg"), torch.full((32, 8), NAN), "optimizer_states 0 exp_avg is not finite"),
    ((*MOMENT, "exp_avg_sq"), -torch.ones(32, 8), "0 exp_avg_sq must not be negative"),
    ((*MOMENT, "step"), GONE, "optimizer_states 0 step must be a floating-point tensor, got None"),
]


@pytest.mark.parametrize(("path", "value", "message"), ALWAYS)
def test_what_every_command_uses_is_checked(
    checkpoint: Checkpoint, path: tuple, value: Any, message: str
) -> None:
    at(*path)(checkpoint, value)
    for is_fit in (False, True):
        assert message in str(refusal(checkpoint, is_fit))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((HYPER, "lr"), -1.0, "model.lr must be more than 0, got -1.0"),
        ((HYPER, "d_model"), 0, "model.d_model must be a whole number of at least 1, got 0"),
        (
            (HYPER, "mamba", "d_conv"),
            0,
            "model.mamba.d_conv must be a whole number of at least 1, got 0",
        ),
        ((DATA, "batch_size"), 0, "data.batch_size must be at least 1, got 0"),
        ((DATA, "max_moves"), 0, "data.max_moves must be at least 1, got 0"),
    ],
)
def test_a_setting_is_named_under_its_section(
    checkpoint: Checkpoint, path: tuple, value: Any, told: str
) -> None:
    at(*path)(checkpoint, value)
    assert str(refusal(checkpoint, is_fit=False)) == f"{told}."


@pytest.mark.parametrize(("path", "value", "message"), ONLY_FIT)
def test_what_training_goes_on_from_is_checked_for_training_only(
    checkpoint: Checkpoint, path: tuple, value: Any, message: str
) -> None:
    at(*path)(checkpoint, value)
    assert refusal(checkpoint, is_fit=False) is None
    assert message in str(refusal(checkpoint, is_fit=True))


# What a checkpoint may lack or have otherwise: of older versions, other machines, other programs.
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((HYPER, "mixer"), GONE),
        ((HYPER, "cuda_graph"), GONE),
        ((HYPER, "checkpoint_activations"), GONE),
        ((HYPER, "lr"), 1),
        ((HYPER, "mamba", "scan"), "triton"),
        ((DATA, "backend"), "triton"),
        ((DATA, "selfplay_share"), GONE),
        ((DATA, "games_per_chunk"), None),
        ((STREAM, "games_that_fit"), GONE),
        ((STREAM, "selfplay_weights"), GONE),
        ((*GROUP, "fused"), True),
        ((*GROUP, "lr"), 0.5),
        ((*GROUP, "weight_decay"), 0.7),
        ((WEIGHTS, BIAS), torch.ones(12, dtype=torch.bfloat16)),
        (("pytorch-lightning_version",), "2.7.0rc1"),
        (("something",), {"of": "a callback"}),
    ],
)
def test_what_changes_nothing_is_no_fault(checkpoint: Checkpoint, path: tuple, value: Any) -> None:
    at(*path)(checkpoint, value)
    assert refusal(checkpoint, is_fit=True) is None


def test_no_steps_no_moments_and_in_float16_no_moments_yet(checkpoint: Checkpoint) -> None:
    at(*MOMENT[:3])(checkpoint, {})
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5}
    scaler |= {"growth_interval": 2000, "_growth_tracker": 0}
    assert refusal({**checkpoint, "MixedPrecision": scaler}, is_fit=True) is None
    at(*OPTIMIZER_LOOP, "step", "total", "completed")(checkpoint, 0)
    assert refusal({**checkpoint, "global_step": 0}, is_fit=True) is None


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_commands_refuse_it_in_one_line_before_anything_is_made(
    folder: Path, written: Checkpoint, command: str, capfd: pytest.CaptureFixture
) -> None:
    # Of another Lightning program, and of this one with a weight, a setting and a count that broke.
    other = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {"layer.weight": torch.ones(2, 2)},
        "hyper_parameters": {"learning_rate": 0.1},
    }
    wrong = copy.deepcopy(written)
    at(WEIGHTS, BIAS)(wrong, torch.full((12,), NAN))
    behind = copy.deepcopy(written)
    at(STREAM, "batches_trained")(behind, -7)
    for content, message in (
        (other, "model.learning_rate is no setting of this version."),
        (wrong, "state_dict model.head.bias is not finite."),
        (behind, "GameDataModule batches_trained must be a whole number of at least 0, got -7."),
    ):
        write_checkpoint(content, "wrong.ckpt")
        assert tessera(command, "--ckpt_path", "wrong.ckpt") == 2
        out, err = capfd.readouterr()
        assert (out, err) == ("", f"tessera: wrong.ckpt cannot be used: {message}\n")
    assert sorted(path.name for path in folder.iterdir()) == ["small.yaml", "wrong.ckpt"]


def test_weights_and_settings_are_enough_to_measure(
    folder: Path, written: Checkpoint, capfd: pytest.CaptureFixture
) -> None:
    # As somebody keeps them whose own program trained a TesseraModule on other data.
    kept = ("pytorch-lightning_version", "state_dict", "hyper_parameters")
    write_checkpoint({name: written[name] for name in kept}, "weights.ckpt")
    Path("games.txt").write_text("A1 B2")
    assert tessera("predict", "--ckpt_path", "weights.ckpt", "--games", "games.txt") == 0
    assert capfd.readouterr().out.count("\n") == 3
    assert tessera("fit", "--ckpt_path", "weights.ckpt") == 2
    assert "it has no global_step, so it can be measured" in capfd.readouterr().err


def test_a_run_whose_moments_are_not_finite_is_not_saved(
    folder: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Gradients whose squares are too large for float32, as only a run without clipping has them.
    (folder / "huge.py").write_text(
        "from lightning.pytorch import Callback\n"
        "class Huge(Callback):\n"
        "    def on_before_optimizer_step(self, trainer, pl_module, optimizer):\n"
        "        pl_module.model.head.bias.grad.fill_(1e30)\n"
    )
    monkeypatch.syspath_prepend(folder)
    options = ["--trainer.callbacks", '[{"class_path": "huge.Huge"}]']
    options += ["--trainer.max_steps", 3, "--trainer.gradient_clip_val", "null"]
    assert fit(*options) == 1
    told = [x for x in capfd.readouterr().err.splitlines() if x.startswith("tessera:")]
    assert len(told) == 1 and "a moment of the optimizer is not finite after step 3" in told[0]
    assert not Path("checkpoints/small/version_0/last.ckpt").exists()
