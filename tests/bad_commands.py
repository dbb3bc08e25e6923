"""Command lines that cannot be run, and what is said of each."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_bench_commands import BENCH
from tests.bad_match_commands import MATCHES
from tests.bad_run_commands import RUNS
from tests.judging import Case

_FIT = "fit --config small.yaml"
_LAST = "--ckpt_path last --run_name small"

# A command line and a part of its answer.
COMMANDS: tuple[tuple[str, str], ...] = (
    ("fitt", "the command must be one of fit, validate"),
    ("FIT", "the command must be one of fit"),
    ("''", "the command must be one of fit"),
    ("--config small.yaml fit", "the command must be one of fit"),
    ("--verbose", "the command must be one of fit"),
    ("fit surplus", "surplus is no setting"),
    ("fit fit", "fit is no setting"),
    ("fit --config", "config must name a file, got none."),
    ("fit --config=", "config must name a file, got none."),
    ("fit -c", "config must name a file, got none."),
    ("fit --config .", "config . must be a file"),
    ("fit --config none.yaml", "config must be a file or one of any_board"),
    ("fit --config small.yaml none.yaml", "none.yaml"),
    ("fit --config small.yaml --config none.yaml", "config must be a file or one of any_board"),
    ("fit --config http://localhost:9/x.yaml", "must be a file"),
    ("fit --data none.yaml", "data"),
    ("fit --model small.yaml", "model"),
    ("fit --trainer [1]", "trainer"),
    ("fit --monitor 3", "monitor"),
    ("fit --defragmentation foo", "defragmentation"),
    (f"{_FIT} --data.board_size", "data.board_size"),
    (f"{_FIT} --data.bord_size 3", "Did you mean --data.board_size?"),
    (f"{_FIT} --data.board 3", "Did you mean --data.board_size?"),
    (f"{_FIT} -x", "-x"),
    (f"{_FIT} --games game.sgf", "games"),
    (f"{_FIT} --ckpt_path", "ckpt_path"),
    (f"{_FIT} --ckpt_path=", "ckpt_path must name the model"),
    *(
        (f"{_FIT} --ckpt_path={path}", "no checkpoint")
        for path in ("none.ckpt", ".", "small.yaml", "[a]", 7, "best", "hpc", "registry")
    ),
    (f"{_FIT} --ckpt_path last --run_name never", "no checkpoints/never/version_*/last.ckpt"),
    (f"{_FIT} --ckpt_path last --run_name a/b", "run_name must be letters"),
    (f"{_FIT} --init_from=", "init_from must name a model, or be last; got none."),
    *(
        (f"{_FIT} --init_from {path}", "no checkpoint")
        for path in ("none.ckpt", ".", "small.yaml", "[a]", 7, "checkpoints/small")
    ),
    (f"{_FIT} --init_from last --run_name never", "init_from is last, but there is no checkpoints"),
    (f"{_FIT} {_LAST} --init_from small", "init_from must not be given with ckpt_path"),
    (f"validate {_LAST} --init_from small", "init_from must not be given with ckpt_path"),
    (
        f"{_FIT} --init_from checkpoints/small/version_0/last.ckpt --model.d_model 16",
        "last.ckpt is no start for this model: model",
    ),
    (f"{_FIT} {_LAST}", "trainer.max_steps must be more than the 20"),
    (f"{_FIT} {_LAST} --trainer.max_steps 20", "trainer.max_steps must be more than the 20"),
    (f"{_FIT} {_LAST} --trainer.max_steps 30 --model.d_model 16", "model.d_model must be 8"),
    (f"{_FIT} {_LAST} --trainer.max_steps 30 --data.board_size 5", "data.board_size must be 3"),
    (f"{_FIT} {_LAST} --trainer.max_steps 30 --data.seed 5", "data.seed must be 0"),
    (f"{_FIT} {_LAST} --trainer.max_steps 30 --model.mixer mamba2", "model.mixer must be mamba"),
    (f"{_FIT} {_LAST} --trainer.max_steps 30 --model.lr=-1", "model.lr must be more than 0"),
    (f"{_FIT} {_LAST} --trainer.max_steps 30 --trainer.devices 0", "devices"),
    (f"{_FIT} --data.context null --data.windows_per_game 2", "data.windows_per_game must be null"),
    # Names that a callback is to watch, and that nothing logs.
    (
        f"{_FIT} --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss",
        "val/loss",
    ),
    (
        f"{_FIT} --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val_loss",
        "val/loss",
    ),
    (f"{_FIT} --trainer.callbacks+=EarlyStopping", "monitor"),
    (
        f"{_FIT} --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss "
        "--trainer.callbacks.mode=foo",
        "mode",
    ),
    (
        f"{_FIT} --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.every_n_train_steps=-1",
        "every_n_train_steps",
    ),
    (
        f"{_FIT} --trainer.callbacks+=LearningRateMonitor "
        "--trainer.callbacks.logging_interval=often",
        "logging_interval",
    ),
    (f"{_FIT} --trainer.logger false --trainer.callbacks+=LearningRateMonitor", "logger"),
    (
        f"{_FIT} --trainer.callbacks+=StochasticWeightAveraging --trainer.callbacks.swa_lrs=-1",
        "swa_lrs",
    ),
    (f"{_FIT} --trainer.callbacks+=Timer --trainer.callbacks.duration=soon", "duration"),
    (f"{_FIT} --trainer.logger CSVLogger", "save_dir"),
    (f"{_FIT} --trainer.logger WandbLogger", "wandb"),
    (f"{_FIT} --trainer.logger CometLogger", "comet"),
    (f"{_FIT} --trainer.strategy ddp --trainer.devices 0", "devices"),
    (f"{_FIT} --trainer.strategy ddp_spawn --trainer.devices 2", "ddp_spawn"),
    (f"{_FIT} --trainer.default_root_dir small.yaml/below", "small.yaml/below"),
    (f"{_FIT} --trainer.barebones true --trainer.enable_checkpointing true", "barebones"),
    # Measuring.
    ("validate", "ckpt_path"),
    ("test", "ckpt_path"),
    ("validate --config small.yaml", "ckpt_path"),
    ("test --config small.yaml", "ckpt_path"),
    ("validate --ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
    ("test --ckpt_path none.ckpt", "none.ckpt is no checkpoint: there is no such file."),
    ("test --ckpt_path last --run_name never", "no checkpoints/never/version_*/last.ckpt"),
    ("validate --ckpt_path checkpoints/small/version_0", "checkpoints/small/version_0"),
    ("validate --ckpt_path checkpoints/small/version_0/last.ckpt/x", "last.ckpt/x"),
    (f"validate {_LAST} --data.board_size 5", "data.board_size must be 3"),
    (f"validate {_LAST} --data.val_batches 0", "data.val_batches must be at least 1"),
    (f"validate {_LAST} --data.val_batches {10**12}", "data.val_batches"),
    (f"validate {_LAST} --data.context {10**12}", "data.context"),
    (f"validate {_LAST} --trainer.limit_val_batches 0.5", "limit_val_batches"),
    (f"validate {_LAST} --trainer.limit_val_batches=-1", "limit_val_batches"),
    (f"validate {_LAST} --trainer.devices 0", "devices"),
    (f"validate {_LAST} --trainer.precision transformer-engine", "precision"),
    (f"validate {_LAST} --trainer.accelerator tpu", "accelerator"),
    (f"validate {_LAST} --trainer.strategy ddp_spawn", "ddp_spawn"),
    (f"validate {_LAST} --data.backend triton", "data.backend"),
    (f"validate {_LAST} --model.scan triton", "model.mamba.scan"),
    (f"validate {_LAST} --reliability found.pdf", "--reliability must end in .png or .svg"),
    (f"test {_LAST} --reliability none/found.png", "--reliability: there is no folder none"),
    (f"test {_LAST} --reliability=", "--reliability must name a file, got none."),
    (f"test {_LAST} --reliability a.svg --json ./a.svg", "--reliability must be another file"),
    (f"predict {_LAST} --games game.txt --reliability a.png", "reliability is no setting"),
    (f"validate {_LAST} --model.d_model 16", "model.d_model must be 8"),
    (f"validate {_LAST} --cpu_threads {10**9}", "cpu_threads"),
    (f"validate {_LAST} --seed_everything=-1", "seed_everything"),
    (f"validate {_LAST} --games game.sgf", "games"),
    (f"validate {_LAST} --json none/x.json", "--json: there is no folder none."),
    (f"validate {_LAST} --json .", "--json: . cannot be written."),
    (f"test {_LAST} --json ''", "--json must name a file, got none."),
    (f"test {_LAST} --json small.yaml/x.json", "--json: there is no folder small.yaml."),
    (f"test {_LAST} --json {'n' * 300}", "--json"),
    ("fit --config small.yaml --json x.json", "--json is no setting."),
    (f"test {_LAST} --data.test_batches {10**12}", "data.test_batches"),
    (f"test {_LAST} --trainer.limit_test_batches 1.5", "limit_test_batches"),
    (f"test {_LAST} --trainer.fast_dev_run=-1", "fast_dev_run"),
    (f"test {_LAST} --verbose maybe", "verbose"),
    ("predict", "ckpt_path must name the model"),
    ("predict --games game.sgf", "ckpt_path must name the model"),
    (f"predict {_LAST}", "games must name at least one"),
    (f"predict {_LAST} --games", "games"),
    (f"predict {_LAST} --games=", "games must name at least one"),
    (f"predict {_LAST} --games none.sgf", "there is no none.sgf"),
    (f"predict {_LAST} --games . ", "games must be files"),
    (f"predict {_LAST} --games {'n' * 300}.sgf", "nnn.sgf"),
    ("predict --ckpt_path none.ckpt --games small.yaml", "none.ckpt is no checkpoint"),
    # Games.
    ("games", "--sgf"),
    ("games --sgf small.yaml", "small.yaml is a file"),
    ("games --sgf out --number 0", "--number must be at least 1, got 0."),
    ("games --sgf out --board_size 1", "--board_size must be 2 to 19, got 1."),
    ("games --sgf out --player none.ckpt", "none.ckpt is no checkpoint"),
    (f"games --sgf out --number {10**21}", "--number"),
    # A map.
    ("map", "--ckpt_path"),
    ("map --moves A1", "--ckpt_path"),
    (f"map {_LAST}", "either a FILE or --moves, got none."),
    (f"map {_LAST} ''", "FILE must name a file, got none."),
    (f"map {_LAST} small.yaml", "small.yaml is neither SGF nor a board"),
    (f"map {_LAST} small.yaml --moves A1", "either a FILE or --moves, got both."),
    (f"map {_LAST} none.sgf", "there is no none.sgf"),
    (f"map {_LAST} {'n' * 300}.sgf", "nnn.sgf"),
    (f"map {_LAST} --moves D4", "vertex must be A1 to C3 or pass, got 'D4'."),
    (f"map {_LAST} --moves {'A' * 9000}", "vertex must be A1 to C3"),
    (f"map {_LAST} --moves 'A1 A1'", "move 2: A1 is occupied."),
    (f"map {_LAST} --moves A1 --move 1", "--move"),
    (f"map {_LAST} --moves A1 --move {10**21}", "--move"),
    (f"map {_LAST} --moves A1 --to_play red", "--to_play"),
    (f"map {_LAST} --moves A1 --output map.gif", "--output must end in .png or .svg"),
    (f"map {_LAST} --moves A1 --output none/map.png", "--output: there is no folder none."),
    (f"map {_LAST} --moves A1 --output {'n' * 300}.png", "--output"),
    (f"map {_LAST} --moves A1 --every_move", "--every_move is of --sgf"),
    (f"map {_LAST} --moves A1 --sgf ''", "--sgf must name a file, got none."),
    (f"map {_LAST} --moves A1 --json .", "--json: . cannot be written."),
    (f"map {_LAST} --moves A1 --device abacus", "--device must be auto, cpu or cuda"),
    (f"map {_LAST} --moves A1 --device cuda", "torch finds no CUDA device here"),
    (f"map {_LAST} --moves A1 surplus surplus", "surplus"),
    ("map --ckpt_path none.ckpt --moves A1", "none.ckpt is no checkpoint"),
    # A model alone.
    ("export", "--ckpt_path, --output"),
    (f"export {_LAST}", "--output"),
    ("export --output x.safetensors", "--ckpt_path"),
    ("export --ckpt_path= --output x.safetensors", "--ckpt_path must name the model"),
    *(
        (f"export --ckpt_path={path} --output x.safetensors", says)
        for path, says in (
            *((path, "checkpoint") for path in ("none.ckpt", ".", "small.yaml", "[a]")),
            ("n" * 300, "File name too long"),
        )
    ),
    ("export --ckpt_path last --run_name never --output x.safetensors", "no checkpoints/never"),
    ("export --ckpt_path last --run_name a/b --output x.safetensors", "run_name must be letters"),
    *(
        (f"export {_LAST} --output {output}", says)
        for output, says in (
            ("''", "--output must end in .safetensors, got none."),
            (".", "--output must end in .safetensors, got .."),
            ("x.ckpt", "--output must end in .safetensors, got x.ckpt."),
            ("checkpoints/small/version_0/last.ckpt", "--output must end in .safetensors"),
            ("none/x.safetensors", "--output: there is no folder none."),
            ("small.yaml/x.safetensors", "--output: there is no folder small.yaml."),
            (f"{'n' * 300}.safetensors", "--output"),
        )
    ),
    *(
        (f"export {_LAST} --output x.safetensors {option}", says)
        for option, says in (
            ("--int8 --dtype bfloat16", "--dtype"),
            ("--dtype int8", "--dtype"),
            ("--dtype", "--dtype"),
            ("--games 0", "--games must be 1 to 100,000, got 0."),
            ("--games=-1", "--games must be 1 to 100,000, got -1."),
            (f"--games {10**12}", "--games must be 1 to 100,000"),
            ("--games many", "--games"),
            ("--json none/x.json", "--json: there is no folder none."),
            ("--json .", "--json: . cannot be written."),
            ("--json ''", "--json must name a file, got none."),
            ("--json x.safetensors", "--json must be another file than --output"),
            ("--device abacus", "--device must be auto, cpu or cuda"),
            ("--device cuda", "torch finds no CUDA device here"),
            ("--force", "--force"),
            ("surplus", "surplus"),
        )
    ),
    # The others.
    ("check --device abacus", "--device must be auto, cpu or cuda, got abacus."),
    ("check --device cuda", "torch finds no CUDA device here"),
    ("check --device cuda:7", "torch finds no CUDA device here"),
    ("check --device cpu:1", "--device must be auto, cpu or cuda"),
    ("check --device ''", "--device must be auto, cpu or cuda"),
    ("check --seed=-1", "--seed must be 0 to"),
    (f"check --seed {2**32}", "--seed must be 0 to"),
    ("check --seed one", "--seed"),
    ("check --seed 1.5", "--seed"),
    ("check --json none/check.json", "there is no folder none"),
    ("check --json .", "--json"),
    ("check --json small.yaml/check.json", "--json"),
    ("check --json ''", "--json must name a file, got none."),
    (f"check --json {'n' * 300}", "--json"),
    ("check --jsn x", "--jsn"),
    ("check surplus", "surplus"),
    ("gtp", "--ckpt_path"),
    ("gtp --ckpt_path=", "--ckpt_path must name the model"),
    *(
        (f"gtp --ckpt_path={path}", "checkpoint")
        for path in ("none.ckpt", ".", "small.yaml", "game.sgf", "[a]")
    ),
    (f"gtp --ckpt_path={'n' * 300}", "File name too long"),
    ("gtp --ckpt_path nothing --run_name a/b", "run_name must be letters"),
    ("gtp --ckpt_path last --run_name never", "no checkpoints/never/version_*/last.ckpt"),
    (f"gtp {_LAST} --temperature hot", "--temperature"),
    (f"gtp {_LAST} --playouts few", "--playouts"),
    (f"gtp {_LAST} --playouts=-1", "--playouts must be 0, or 2 to 1000000, got -1."),
    (f"gtp {_LAST} --resign_below 0.1", "--resign_below needs a model with an outcome"),
    (f"gtp {_LAST} surplus", "surplus"),
    ("board", "--ckpt_path"),
    ("board --ckpt_path=", "--ckpt_path must name the model"),
    *(
        (f"board --no-open --ckpt_path={path}", "checkpoint")
        for path in ("none.ckpt", "small.yaml")
    ),
    (f"board {_LAST} --port 70000", "--port must be at most 65535, got 70000."),
    (f"board {_LAST} --host 0.0.0.0", "--host"),
    (f"board {_LAST} surplus", "surplus"),
    ("doctor --json none/doctor.json", "there is no folder none"),
    ("doctor --json .", "--json"),
    ("doctor --json ''", "--json must name a file, got none."),
    (f"doctor --json {'n' * 300}", "--json"),
    ("doctor --json", "--json"),
    ("doctor --device cpu", "--device"),
    ("doctor surplus", "surplus"),
    *BENCH,
    *MATCHES,
    *RUNS,
)


def commands() -> Iterator[Case]:
    """A case for each command line."""
    for arguments, says in COMMANDS:
        yield Case(arguments, says)


def good_commands() -> Iterator[Case]:
    """Commands that can be run: none may pass for a bad one."""
    export = f"export {_LAST} --output x.safetensors"
    more = (export, f"validate {_LAST}", f"map {_LAST} --moves A1", f"{_FIT} --print_config")
    for arguments in ("doctor", "--version", _FIT, *more):
        yield Case(arguments)
