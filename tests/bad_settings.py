"""Settings that fit cannot run with; the answer names the setting."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from tests.judging import Case

FIT = "fit --config small.yaml"

# What is no number, no whole number, no yes or no, no word, whatever the setting.
_NO_NUMBER = ("nine", "null", "[9]", "{n: 9}", ".nan", ".inf", "-.inf", "")
_NO_WHOLE = (*_NO_NUMBER, "9.5", "true")
_NO_FLAG = ("maybe", "2", "null", "[true]", "{on: true}", ".nan")
_NO_WORD = ("foo", "null", "[foo]", "{a: foo}", "7")
# More than any machine holds.
_HUGE = (10**9, 10**12, 10**21)

# What a command needs so that settings are an objective's that is chosen.
_SEARCHED = "--model.mixer identity --model.features board --model.outcome win_and_score "
_OF_SELFPLAY = (
    *("slots", "rows", "first_rows", "opening_plies"),
    *("match_pairs", "match_simulations", "match_playouts"),
)
_OBJECTIVES = {
    "fixed_point": "--model.objective fixed_point --model.mixer context_token ",
    "expert_iteration": f"--model.objective expert_iteration {_SEARCHED}",
    "policy_gradient": f"--model.objective policy_gradient {_SEARCHED}",
}

# A setting and values that it cannot have.
SETTINGS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("data.board_size", (*_NO_WHOLE, 0, 1, 20, -9, *_HUGE)),
    ("data.rules", (*_NO_WORD, "")),
    ("data.komi", ("six", "[6]", "{k: 6}", ".nan", ".inf", "true")),
    ("data.ko", ("foo", "[simple]", "{a: simple}", "7")),
    ("data.suicide", ("maybe", "2", "[true]", "{a: true}")),
    ("data.max_moves", ("many", "[9]", "{n: 9}", ".nan", "9.5", "true", 0, -1, 10**12, 10**21)),
    ("data.score", ("foo", "[area]", "{a: area}", "7")),
    ("data.player", (*_NO_WORD, "")),
    ("data.skip_settled", _NO_FLAG),
    ("data.batch_size", (*(x for x in _NO_WHOLE if x != "null"), "automatic", 0, -4, 5, *_HUGE)),
    ("data.context", ("many", "[9]", "{n: 9}", ".nan", "9.5", "true", 0, -1, 10**12, 10**21)),
    ("data.games_per_chunk", ("many", "[9]", "{n: 9}", ".nan", "9.5", 0, -1, 33, 10**12, 10**21)),
    ("data.windows_per_game", ("many", "[9]", "{n: 9}", ".nan", "9.5", 0, -1, 10**12, 10**21)),
    ("data.seed", _NO_WHOLE),
    ("data.val_batches", (*_NO_WHOLE, 0, -1, 10**12, 10**21)),
    ("data.test_batches", (*_NO_WHOLE, 0, -1)),
    ("data.backend", (*_NO_WORD, "triton")),
    ("data.selfplay_share", (*_NO_NUMBER, -0.1, 1.1, "1e300")),
    ("data.selfplay_temperature", (*_NO_NUMBER, 0, -1)),
    ("model.d_model", (*_NO_WHOLE, 0, -8, *_HUGE)),
    ("model.mamba.d_state", (*_NO_WHOLE, 0, -4, 10**12, 10**21)),
    ("model.mamba.d_conv", (*_NO_WHOLE, 0, -4, 10**12, 10**21)),
    ("model.mamba.expand", (*_NO_WHOLE, 0, -2, *_HUGE)),
    ("model.n_layers", (*_NO_WHOLE, 0, -1, *_HUGE)),
    ("model.mamba.scan", (*_NO_WORD, "triton", "mamba_ssm")),
    (
        "model.mixer",
        ("9", "{n: 9}", "[]", "mamba3", "[foo]", "[mamba, mamba2]", "no.Such", "os.path"),
    ),
    ("model.embedding", (*_NO_WORD, "mamba", "no.Such")),
    ("model.feed_forward", (*_NO_WORD, "mamba", "torch.nn.Linear")),
    ("model.head", (*_NO_WORD, "dense", "torch.nn.Linear")),
    ("model.objective", (*_NO_WORD, "mamba", "no.Such")),
    ("model.fixed_point.context_steps", ("many", "[9]", "{n: 9}", ".nan", "9.5", "true", -1)),
    ("model.fixed_point.context_lr", (*_NO_NUMBER, 0, -1)),
    ("model.fixed_point.sweeps", (*_NO_WHOLE, 0)),
    ("model.fixed_point.noise", (*_NO_NUMBER, -0.1)),
    ("model.fixed_point.diversity", (*_NO_WORD, "")),
    ("model.fixed_point.diversity_weight", (*_NO_NUMBER, -0.1, 1.1)),
    ("model.fixed_point.patience", ("many", "[9]", "{n: 9}", ".nan", "9.5", "true", 0, -1)),
    ("model.fixed_point.rank_rows", (*_NO_WHOLE, 0, 1)),
    ("model.fixed_point.cached_games", (*_NO_WHOLE, 0, -1)),
    ("model.fixed_point.token_batch", ("many", "[9]", "{n: 9}", ".nan", "9.5", "true", 0, -1)),
    ("model.fixed_point.cache", (*_NO_WORD, "")),
    ("model.fixed_point.keeps_contexts", _NO_FLAG),
    ("model.fixed_point.seed", (*_NO_WHOLE, -1, 2**31)),
    *(
        (f"model.expert_iteration.{name}", (*_NO_WHOLE, least - 1))
        for name, least in (
            *(("slots", 1), ("simulations", 1), ("fast_simulations", 0), ("considered", 2)),
            *(("rows", 1), ("first_rows", 1), ("opening_plies", 0), ("temperature_plies", 0)),
            *(("playout_steps", 0), ("playouts", 1)),
            *(("match_pairs", 0), ("match_simulations", 0), ("match_playouts", 0), ("pool", 0)),
        )
    ),
    # More than any machine plays or holds.
    *(
        (f"model.{objective}.{name}", (2**31, 10**12, 10**21))
        for objective, names in (
            ("expert_iteration", ("simulations", "fast_simulations", "considered", "playouts")),
            *((each, _OF_SELFPLAY) for each in ("expert_iteration", "policy_gradient")),
        )
        for name in names
    ),
    ("model.expert_iteration.temperature_plies", (2**31,)),
    ("model.expert_iteration.pool_share", (*_NO_NUMBER, -0.1, 0.6)),
    ("model.policy_gradient.pool", (*_NO_WHOLE, -1, 1001)),
    ("model.expert_iteration.full_share", (*_NO_NUMBER, 0, 1.1, "1e-300")),
    ("model.expert_iteration.window_share", (*_NO_NUMBER, 0, 1.1)),
    ("model.expert_iteration.reuse", (*_NO_NUMBER, 0, -1, "1e-300", "1e300")),
    ("model.expert_iteration.value_share", (*_NO_NUMBER, -0.1, 1.1)),
    ("model.expert_iteration.score_share", (*_NO_NUMBER, -0.1, 1.1)),
    ("model.expert_iteration.value_scale", (*_NO_NUMBER, -1)),
    ("model.expert_iteration.ema_decay", (*_NO_NUMBER, -0.1, 1)),
    ("model.policy_gradient.slots", (*_NO_WHOLE, 0)),
    ("model.policy_gradient.entropy_weight", (*_NO_NUMBER, -0.1)),
    ("model.own", ("9", "[9]", "{n: 9}", "{no.Such: {n: 9}}", "{no.Such: 9}")),
    ("model.lr", (*_NO_NUMBER, 0, -1, "1e400")),
    ("model.warmup_steps", (*_NO_WHOLE, -1)),
    ("model.stable_steps", (*_NO_WHOLE, -1)),
    ("model.decay_steps", ("many", "[9]", "{n: 9}", ".nan", "9.5", "true", 0, -1)),
    ("model.min_lr_ratio", (*_NO_NUMBER, -0.1, 1.1)),
    ("model.weight_decay", (*_NO_NUMBER, -0.1)),
    ("model.checkpoint_activations", _NO_FLAG),
    ("monitor.enabled", _NO_FLAG),
    ("monitor.timing_every", (*_NO_WHOLE, -1)),
    ("monitor.game_every", (*_NO_WHOLE, -1)),
    ("monitor.state_every", (*_NO_WHOLE, -1)),
    ("monitor.memory_every", (*_NO_WHOLE, -1)),
    ("monitor.summary_every", (*_NO_WHOLE, -1)),
    ("monitor.copies_every", (*_NO_WHOLE, -1)),
    ("monitor.copies_steps", (*_NO_WHOLE, -1, 0)),
    ("monitor.copies_time_ratio", (*_NO_NUMBER, -0.1, 1.1)),
    ("monitor.on_design_violation", (*_NO_WORD, "Stop")),
    ("monitor.on_high", _NO_WORD),
    ("monitor.on_medium", _NO_WORD),
    ("defragmentation.enabled", _NO_FLAG),
    ("defragmentation.every_n_steps", (*_NO_WHOLE, 0, -1)),
    ("defragmentation.only_above", ("much", "[2]", "{a: 2}", ".nan", ".inf", -1, 0)),
    ("seed_everything", ("abc", "[1]", "{a: 1}", "1.5", ".nan", -1, 2**32, 2**64, 10**21)),
    ("checkpoint_every_n_steps", (*_NO_WHOLE, 0, -1)),
    ("export_every_n_steps", (*_NO_WHOLE, -1)),
    ("picture_every_n_validations", (*_NO_WHOLE, -1)),
    ("cpu_threads", ("many", "[1]", "{a: 1}", ".nan", "1.5", "true", 0, -1, 10**5, *_HUGE)),
    ("run_name", ("a/b", "..", ".hidden", "", "a b", "ä/ö", "[a, b]", "n" * 300)),
    ("trainer.accelerator", ("tpu", "gpu", "cuda", "mps", "foo", "[cpu]", "null", "")),
    ("trainer.strategy", ("foo", "ddp_spawn", "ddp_notebook", "deepspeed", "fsdp", "[ddp]", "")),
    ("trainer.devices", (0, -2, "abc", "1,1", "[]", "null", "1.5", 1000, 10**9, "{a: 1}")),
    ("trainer.num_nodes", (0, -1, "two", "null")),
    ("trainer.precision", ("transformer-engine", "17", "bf15", "bitsandbytes", "[16]", "nf4")),
    ("trainer.logger", ("foo", "NoSuchLogger", "7", "torch.nn.ReLU")),
    ("trainer.callbacks", ("foo", "NoSuch", "[NoSuch]", "7", "torch.nn.ReLU", "{a: 1}")),
    ("trainer.fast_dev_run", (-1, "maybe", "1.5", "[1]", "null")),
    ("trainer.max_epochs", (-5, "1.5", "many", "[1]", ".nan")),
    ("trainer.min_epochs", (-5, "1.5", "many", "[1]")),
    ("trainer.max_steps", (*_NO_WHOLE, -5, -2)),
    ("trainer.min_steps", (-5, "1.5", "many", "[1]")),
    (
        "trainer.max_time",
        ("soon", "1:2", "00:00:00:99x", "00:00:00:-5", "-1", "[1]", "{days: many}", "{a: 1}"),
    ),
    ("trainer.limit_train_batches", (0.5, -1, 1.5, "many", "[1]", ".nan", 10**21)),
    ("trainer.limit_val_batches", (0.5, -1, 1.5, "many", "[1]", ".nan")),
    ("trainer.overfit_batches", (0.1, -1, 1.5, "many", "[1]", ".nan", "null")),
    ("trainer.val_check_interval", (0, -1, 0.5, 1.5, "often", "[1]", ".nan", "0.0")),
    ("trainer.check_val_every_n_epoch", (0, -1, "1.5", "often", "[1]")),
    ("trainer.num_sanity_val_steps", (-2, "1.5", "many", "[1]")),
    ("trainer.log_every_n_steps", (0, -1, "1.5", "often", "[1]")),
    ("trainer.enable_checkpointing", ("maybe", "2", "[true]")),
    ("trainer.enable_progress_bar", ("maybe", "2", "[true]")),
    ("trainer.enable_model_summary", ("maybe", "2", "[true]")),
    ("trainer.accumulate_grad_batches", (0, -1, "1.5", "many", "[1]", "null", "{4: 2}")),
    ("trainer.gradient_clip_val", (-1, "much", "[1]", ".nan", "true")),
    ("trainer.gradient_clip_algorithm", ("foo", "7", "[norm]")),
    ("trainer.deterministic", ("maybe", "[true]", "7")),
    ("trainer.benchmark", ("maybe", "[true]", "7")),
    ("trainer.inference_mode", _NO_FLAG),
    ("trainer.use_distributed_sampler", _NO_FLAG),
    ("trainer.profiler", ("foo", "[simple]", "7", "torch.nn.ReLU", "xla")),
    ("trainer.detect_anomaly", _NO_FLAG),
    ("trainer.barebones", _NO_FLAG),
    ("trainer.plugins", ("foo", "NoSuch", "[NoSuch]", "7", "torch.nn.ReLU")),
    ("trainer.sync_batchnorm", _NO_FLAG),
    ("trainer.reload_dataloaders_every_n_epochs", (-1, "1.5", "often", "null")),
    ("trainer.default_root_dir", ("small.yaml",)),
    ("trainer.enable_autolog_hparams", _NO_FLAG),
    ("weights_only", ("maybe", "7", "[true]")),
    ("no_such_setting", (1,)),
    ("data.no_such_setting", (1,)),
    ("trainer.no_such_setting", (1,)),
    ("model.vocab_size", (84,)),
    ("monitor.checkpoint_dir", ("x",)),
)


def settings() -> Iterator[Case]:
    """A case for each value of each setting."""
    for name, values in SETTINGS:
        for value in values:
            option = shlex.quote(f"--{name}={value}")
            whose = _OBJECTIVES.get(name.split(".")[1] if "." in name else "", "")
            yield Case(f"{FIT} {whose}{option}", name.rpartition(".")[2])
