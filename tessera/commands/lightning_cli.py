"""TesseraCLI: Lightning's command line over this program's parts."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tessera.commands.predict import game_loader, print_predictions
from tessera.data import GameDataModule
from tessera.monitor import Defragmentation, TesseraMonitor
from tessera.play.game_picture import GamePicture
from tessera.training.checkpoint_content import check_content
from tessera.training.checkpoint_file import CheckpointError, SaveError, read_checkpoint
from tessera.training.checkpointing import AtomicCheckpointIO, TrainingCheckpoint
from tessera.training.interruption import Interrupted
from tessera.training.module import TesseraModule
from tessera.training.parser import TesseraParser
from tessera.training.progress import RunProgress
from tessera.training.resume import conflicts, settings_of
from tessera.training.run_folder import (
    RunFolder,
    discard,
    find_checkpoint,
    latest_run,
    new_run,
    run_of,
)
from tessera.training.run_lock import RunLock
from tessera.training.tensorboard import GroupedLogger, SaveSettings
from tessera.training.throughput import Throughput
from tessera.training.unprofiled import Unprofiled

_TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": 10_000,
    "max_epochs": -1,  # the stream is one endless epoch, so steps are what is counted
    "gradient_clip_val": 1.0,  # against a diverging state
    "val_check_interval": 500,  # batches
    "check_val_every_n_epoch": None,  # count batches over the whole run
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}


# Seconds until what was logged is on the disk, for a person who looks on.
_FLUSH_S = 10

# What the monitor is told of the other settings.
_FILLED_IN = {"checkpoint_dir", "board_size", "rules"}


class SettingsError(ValueError):
    """Settings that cannot be run; a line for each problem."""


class TesseraCLI(LightningCLI):
    """Parses the command line, builds everything and runs the command.

    Args:
        args: the command and its options.

    Raises:
        SettingsError: if the settings cannot be run.
        CheckpointError: if the checkpoint cannot be used, or another process writes to its run.
        SaveError: if a checkpoint cannot be written.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.argv = list(args)
        self.run_folder: RunFolder | None = None
        self._lock = RunLock()
        try:
            super().__init__(
                TesseraModule,
                GameDataModule,
                save_config_callback=SaveSettings,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults=_TRAINER_DEFAULTS,
                seed_everything_default=0,
                parser_class=TesseraParser,
                args=self.argv,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        finally:
            self._lock.release()

    # What can be set.

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that is run: each other one would take a quarter of a second."""
        command = self.argv[0]
        return {command: super().subcommands()[command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that are no part of the trainer, the model or the data."""
        parser.add_argument(
            "--run_name",
            type=str | None,
            default=None,
            help="Runs of one name lie side by side in checkpoints/NAME and lightning_logs/NAME. "
            "Without it the name of the configuration file.",
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int,
            default=500,
            help="Steps between two checkpoints; one is also written at the end.",
        )
        parser.add_argument(
            "--picture_every_n_validations",
            type=int,
            default=1,
            help="Validations between two pictures of a game in TensorBoard; 0 for none.",
        )
        parser.add_argument(
            "--cpu_threads",
            type=int | None,
            default=None,
            help="Threads that torch computes with on a CPU; null lets torch take all cores.",
        )
        # Every command takes them, so that one file serves all; only fit has a use for them.
        parser.add_class_arguments(
            TesseraMonitor, "monitor", instantiate=False, skip=_FILLED_IN, sub_configs=True
        )
        parser.add_class_arguments(
            Defragmentation, "defragmentation", instantiate=False, sub_configs=True
        )
        parser.link_arguments("data.board_size", "model.vocab_size", compute_fn=_vocab_size)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument(
                "--games",
                nargs="+",
                type=str,
                default=[],
                help="SGF files, or text files with one game a line, moves as GTP vertices.",
            )
        return parser

    # What was set.

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, take what is not said from the checkpoint, and compare what is."""
        config = parser.parse_args(self.argv)
        command, settings = config.subcommand, config[config.subcommand]
        run_name = _run_name(settings)
        if settings.ckpt_path is not None:
            path = find_checkpoint(str(settings.ckpt_path), run_name)
            checkpoint = read_checkpoint(path)
            check_content(path, checkpoint, command == "fit")
            command_parser = self._subcommand_parsers[command]
            command_parser.set_defaults(settings_of(checkpoint))
            config = parser.parse_args(self.argv)
            settings = config[command]
            settings.ckpt_path = str(path)
            self._check_checkpoint(command, path, checkpoint, settings)
        elif command == "predict":
            raise SettingsError("ckpt_path must name the model, or be last; got none.")
        settings.run_name = run_name
        self.config = config

    def _check_checkpoint(
        self, command: str, path: Path, checkpoint: dict[str, Any], settings: Namespace
    ) -> None:
        wanted = {name: settings[name] for name in settings_of(checkpoint)}
        problems = conflicts(path, checkpoint, wanted, command == "fit")
        steps, max_steps = checkpoint.get("global_step", 0), settings.trainer.max_steps
        if command == "fit" and 0 <= max_steps <= steps:
            problems.append(
                f"trainer.max_steps must be more than the {steps} that {path} has, got {max_steps}."
            )
        if problems:
            raise SettingsError("\n".join(problems))

    def _parse_ckpt_path(self) -> None:
        """Done already; Lightning's own would let the checkpoint overrule the command line."""

    # What is built of it.

    def instantiate_classes(self) -> None:
        """Build everything, or say in one message what is wrong with the settings."""
        settings = self.config[self.subcommand]
        problems: list[str] = []
        least = {"checkpoint_every_n_steps": 1, "picture_every_n_validations": 0, "cpu_threads": 1}
        for name, low in least.items():
            if settings[name] is not None and settings[name] < low:
                problems.append(f"{name} must be at least {low}, got {settings[name]}.")
        try:
            RunFolder(settings.run_name, 0)
        except ValueError as error:
            problems.append(str(error))
        for klass, section in (
            (GameDataModule, settings.data),
            (TesseraMonitor, settings.monitor),
            (Defragmentation, settings.defragmentation),
        ):
            try:
                klass(**section)
            except ValueError as error:
                problems.append(str(error))
        try:
            # Without memory and without drawing random numbers.
            with torch.device("meta"):
                TesseraModule(**settings.model)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise SettingsError("\n".join(problems))
        if settings.cpu_threads is not None:
            torch.set_num_threads(settings.cpu_threads)
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise SettingsError(" ".join(str(error).split())) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with this program's callbacks, logger and checkpoint files."""
        settings = self._get(self.config_init, "trainer")
        plugins = settings.plugins if isinstance(settings.plugins, list) else [settings.plugins]
        config = {**settings, "plugins": [*filter(None, plugins), AtomicCheckpointIO()], **kwargs}
        config["profiler"] = settings.profiler or Unprofiled()
        callbacks: list[Any] = [] if settings.enable_progress_bar is False else [RunProgress()]
        if self.subcommand != "fit":
            self.save_config_callback = None
            # A measurement is printed; it has no curve.
            config["logger"] = settings.logger if settings.logger not in (None, True) else False
            return self._instantiate_trainer(config, callbacks)
        run = self.run_folder = self._open_run()
        # The others wait for the GPU where they log; what the monitor does before is hidden by it.
        callbacks = [*self._monitor(run.checkpoints), *callbacks, Throughput()]
        callbacks.append(GamePicture(self._setting("picture_every_n_validations")))
        if settings.enable_checkpointing is not False:
            every = self._setting("checkpoint_every_n_steps")
            callbacks.append(TrainingCheckpoint(run.checkpoints, every))
        if settings.logger in (None, True):
            config["logger"] = GroupedLogger(
                run.logs.parent.parent,
                run.name,
                run.logs.name,
                default_hp_metric=False,
                flush_secs=_FLUSH_S,
            )
        try:
            return self._instantiate_trainer(config, callbacks)
        except Exception:
            self._lock.release()
            discard(run)
            raise

    def _monitor(self, checkpoints: Path) -> list[Callback]:
        """The monitor, and after it, so that it sees what there was to do, the defragmentation."""
        data = self.datamodule.settings
        monitor = TesseraMonitor(
            **self._setting("monitor"),
            checkpoint_dir=checkpoints,
            board_size=data.board_size,
            rules=data.rules,
        )
        return [monitor, Defragmentation(**self._setting("defragmentation"))]

    def _open_run(self) -> RunFolder:
        ckpt_path, name = self._setting("ckpt_path"), self._setting("run_name")
        run = run_of(Path(ckpt_path)) if ckpt_path is not None else None
        # The first process's folder is the one that is written to.
        if _rank() != 0:
            return run or latest_run(name)
        run = run or new_run(name)
        try:
            self._lock.take(run.checkpoints)
        except (CheckpointError, SaveError):
            discard(run)
            raise
        return run

    def _setting(self, name: str) -> Any:
        return self._get(self.config_init, name)

    # What is run.

    def fit(self, **kwargs: Any) -> None:
        """Train, and say in the end where everything is."""
        assert self.run_folder is not None
        checkpoint = self.run_folder.checkpoints / "last.ckpt"
        try:
            self.trainer.fit(**kwargs)
        except Interrupted as error:
            if self.trainer.is_global_zero:
                step = self.trainer.global_step
                resume = self._resume_command(checkpoint)
                print(f"tessera: {error} at step {step}; resume: {resume}", file=sys.stderr)
            raise SystemExit(128 + error.signal_number) from None
        if self.trainer.is_global_zero:
            more = 2 * self.trainer.max_steps if self.trainer.max_steps > 0 else None
            print(f"checkpoint: {checkpoint}")
            print(f"curves:     tensorboard --logdir {self.run_folder.logs.parent.parent}")
            print(f"resume:     {self._resume_command(checkpoint, more)}")

    def predict(self, model: LightningModule, ckpt_path: str, **kwargs: Any) -> None:
        """Write the distributions of the given games, a line of JSON for each ply."""
        games = self._setting("games")
        context, board_size = self.datamodule.hparams.context, self.datamodule.hparams.board_size
        try:
            loader = game_loader(games, board_size, context)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        print_predictions(self.trainer, model, loader, ckpt_path)

    def _resume_command(self, checkpoint: Path, max_steps: int | None = None) -> str:
        given = _without(self.argv, "--ckpt_path")
        if max_steps is not None:
            given = [*_without(given, "--trainer.max_steps"), "--trainer.max_steps", str(max_steps)]
        return f"tessera {shlex.join([*given, '--ckpt_path', str(checkpoint)])}"


def _rank() -> int:
    """This process's rank, known before there is a trainer; of a node's first one its node's."""
    return getattr(rank_zero_only, "rank", 0) or int(os.environ.get("NODE_RANK", 0))


def _vocab_size(board_size: int) -> int:
    # Plain arithmetic, because a wrong board size is reported together with everything else.
    return board_size**2 + 3


def _run_name(settings: Namespace) -> str:
    """The run's name: given, or that of the last configuration file."""
    if settings.run_name is not None:
        return settings.run_name
    files = settings.config or []
    return Path(str(files[-1])).stem if files else "tessera"


def _without(argv: Sequence[str], option: str) -> list[str]:
    """The arguments without an option and its value."""
    kept: list[str] = []
    skip = False
    for argument in argv:
        if not skip and argument.partition("=")[0] != option:
            kept.append(argument)
        skip = argument == option
    return kept
