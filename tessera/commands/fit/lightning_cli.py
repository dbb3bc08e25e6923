"""TesseraCLI: Lightning's command line over this program's parts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tessera.accelerator import is_out_of_memory
from tessera.commands.console import go_on_without_console, waiting_for
from tessera.commands.ending import is_first_process
from tessera.commands.fit.closing import closing_lines, stopped_where
from tessera.commands.fit.earlier_options import upgraded_options
from tessera.commands.fit.measurement import Measurement, file_problems_of, tell
from tessera.commands.fit.options import add_command_options, add_run_options, order_help
from tessera.commands.fit.parser import TesseraParser, said_by_a_class
from tessera.commands.fit.predict import print_predictions
from tessera.commands.fit.run_settings import root_of, run_name_of, run_problems
from tessera.commands.fit.start import begun_from, find_start, read_start
from tessera.commands.fit.trainer_settings import (
    STRATEGIES,
    TRAINER_DEFAULTS,
    has_several_processes,
    has_timer,
    spent_limits,
)
from tessera.commands.fit.unchosen import say_unchosen
from tessera.commands.named_configs import names_in_words
from tessera.commands.one_line import one_line
from tessera.commands.packages import version_of
from tessera.data import GameDataModule
from tessera.model import ModelSettings
from tessera.monitor import Defragmentation, TesseraMonitor
from tessera.play.game_picture import GamePicture
from tessera.play.games import read_games
from tessera.setting_errors import Problem, SettingError
from tessera.signals import Stopped
from tessera.training.calibration_picture import CalibrationPicture
from tessera.training.checkpoint_content import read_checked
from tessera.training.checkpoint_file import CheckpointError, SaveError
from tessera.training.checkpointing import LAST, AtomicCheckpointIO, TrainingCheckpoint
from tessera.training.interruption import keep_signals
from tessera.training.kernels import KernelsTogether
from tessera.training.module import TesseraModule
from tessera.training.processes import EndedTogether
from tessera.training.progress import RunProgress
from tessera.training.resume import conflicts, settings_of
from tessera.training.run_folder import (
    FolderError,
    RunFolder,
    discard,
    find_checkpoint,
    latest_run,
    new_run,
    open_folders,
    run_of,
)
from tessera.training.run_lock import RunLock
from tessera.training.strategy import GradientAveraging
from tessera.training.tensorboard import GroupedLogger, SaveSettings
from tessera.training.throughput import Throughput
from tessera.training.trainer import StreamTrainer
from tessera.training.unprofiled import Unprofiled
from tessera.training.version_export import VersionExport


class TesseraCLI(LightningCLI):
    """Parses the command line, builds everything and runs the command.

    Args:
        args: the command and its options.

    Raises:
        SettingError: if the settings cannot be run.
        CheckpointError: if the checkpoint cannot be used, or another process writes to its run.
        SaveError: if a checkpoint cannot be written.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.argv = list(args)  # as it was typed
        self._options = upgraded_options(self.argv)
        self.run_folder: RunFolder | None = None
        self._step: int | None = None  # of the checkpoint, if it says so
        self._start: Mapping[str, torch.Tensor] = {}  # the weights of a new run, if they are given
        self._lock = RunLock()
        try:
            super().__init__(
                TesseraModule,
                GameDataModule,
                save_config_callback=SaveSettings,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_class=StreamTrainer,
                trainer_defaults=TRAINER_DEFAULTS,
                seed_everything_default=0,
                parser_class=TesseraParser,
                args=self._options,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        finally:
            self._lock.release()

    # What can be set.

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Lightning's parser; what it says of ``--config`` names the configurations there are."""
        parser = super().init_parser(**kwargs)
        (config,) = (action for action in parser._actions if action.dest == "config")
        config.help = f"A YAML file of settings, or one of {names_in_words()}."
        return parser

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that is run: each other one would take a quarter of a second."""
        command = self.argv[0]
        return {command: super().subcommands()[command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that are no part of the trainer, the model or the data."""
        add_run_options(parser)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        add_command_options(parser, subcommand)
        order_help(parser, subcommand)
        return parser

    # What was set.

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, take what is not said from the checkpoint, and compare what is."""
        config = parser.parse_args(self._options)
        command, settings = config.subcommand, config[config.subcommand]
        run_name, is_named = run_name_of(settings), settings.run_name is not None
        RunFolder(run_name, 0)  # refuses a name that is none
        if settings.ckpt_path == "" or (settings.ckpt_path is None and command != "fit"):
            raise SettingError("ckpt_path must name the model, or be last; got none.")
        named = ModelSettings.of(settings.model.as_dict()).own_parts()
        start = find_start(settings, self._options, run_name, root_of(settings))
        if settings.ckpt_path is not None:
            if not str(settings.ckpt_path).isprintable():
                raise SettingError(one_line(f"ckpt_path must be a file, got {settings.ckpt_path}."))
            path = find_checkpoint(str(settings.ckpt_path), run_name, root_of(settings))
            checkpoint = read_checked(path, command == "fit", named)
            command_parser = self._subcommand_parsers[command]
            command_parser.set_defaults(settings_of(checkpoint))
            config = parser.parse_args(self._options)
            settings = config[command]
            settings.ckpt_path = str(path)
            self._check_checkpoint(command, path, checkpoint, settings)
            self._step = checkpoint.get("global_step")
            start = begun_from(path, checkpoint) if command == "fit" else None
            own = run_of(path, root_of(settings))
            if own is not None and not is_named:
                run_name = own.name  # for who begins with the settings that are written down
        settings.init_from = None if start is None else str(start)
        settings.run_name = run_name
        defaults = self._subcommand_parsers[command].get_defaults()
        problems = run_problems(settings, defaults, command)
        files = file_problems_of(settings.get("json"), settings.get("reliability"))
        if problems := [*problems, *files]:
            raise SettingError(*problems)
        if start is not None and settings.ckpt_path is None:
            self._start = read_start(start, settings, named)
        say_unchosen(self.argv, settings.model.as_dict())
        self.config = config

    def _check_checkpoint(
        self, command: str, path: Path, checkpoint: dict[str, Any], settings: Namespace
    ) -> None:
        wanted = {name: settings[name] for name in settings_of(checkpoint)}
        problems: list[Problem | str] = [*conflicts(path, checkpoint, wanted, command == "fit")]
        if command == "fit":
            problems += spent_limits(settings.trainer, checkpoint, path)
        if problems:
            raise SettingError(*problems)

    def _parse_ckpt_path(self) -> None:
        """Done already; Lightning's own would let the checkpoint overrule the command line."""

    # What is built of it.

    def instantiate_classes(self) -> None:
        """Build everything."""
        if is_first_process():
            waiting_for("building the model and the trainer")
        try:
            super().instantiate_classes()
        except (OSError, MemoryError, SettingError):
            raise
        except Exception as error:  # what a class that the user named says of its arguments
            if is_out_of_memory(error):
                raise
            raise SettingError(said_by_a_class(error)) from error
        self.model.begun_from = self._setting("init_from")
        if self._start:
            self.model.model.load_state_dict(self._start)
            self._start = {}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with this program's callbacks, logger and checkpoint files."""
        settings = self._get(self.config_init, "trainer")
        if not isinstance(settings.strategy, str | DDPStrategy | SingleDeviceStrategy):
            kind = type(settings.strategy).__name__
            wanted = f"be one of {', '.join(STRATEGIES)} or a class_path of DDPStrategy"
            raise SettingError(Problem("trainer.strategy", kind, wanted))
        plugins = settings.plugins if isinstance(settings.plugins, list) else [settings.plugins]
        files = AtomicCheckpointIO(has_timer=has_timer(settings))
        config = {**settings, "plugins": [*filter(None, plugins), files], **kwargs}
        config["profiler"] = settings.profiler or Unprofiled()
        is_auto = settings.strategy == "auto" and has_several_processes(settings)
        if is_auto or settings.strategy == "ddp":
            config["strategy"] = GradientAveraging()
        callbacks: list[Any] = [] if settings.enable_progress_bar is False else [RunProgress()]
        if self.subcommand != "fit":
            self.save_config_callback = None
            # A measurement is printed; it has no curve.
            config["logger"] = settings.logger if settings.logger not in (None, True) else False
            return self._instantiate_trainer(config, callbacks)
        if not settings.fast_dev_run:
            self.run_folder = self._open_run()
        # The others wait for the GPU where they log; what the monitor does before is hidden by it.
        callbacks = [KernelsTogether(), *self._monitor(), *callbacks, Throughput()]
        every = self._setting("picture_every_n_validations")
        callbacks += [GamePicture(every), CalibrationPicture(every)]
        config["logger"] = self._logger(settings)
        if self.run_folder is None:
            # Unless it is told not to, the trainer brings a checkpoint callback of its own.
            given = settings.callbacks if isinstance(settings.callbacks, list) else []
            config["enable_checkpointing"] = any(isinstance(x, Checkpoint) for x in given)
        elif settings.enable_checkpointing is not False:
            every = self._setting("checkpoint_every_n_steps")
            callbacks.append(TrainingCheckpoint(self.run_folder.checkpoints, every))
            if every := self._setting("export_every_n_steps"):
                version = version_of("tessera") or "0"
                callbacks.append(VersionExport(callbacks[-1], every, version))
        try:
            return self._instantiate_trainer(config, callbacks)
        except BaseException:
            self._discard_run()
            raise

    def _logger(self, settings: Namespace) -> Any:
        """What the trainer is given as its logger; ours, unless another is asked for."""
        run = self.run_folder
        if run is None:
            return False
        if settings.logger not in (None, True):
            return settings.logger
        folder = run.logs.parent.parent
        return GroupedLogger(folder, run.name, run.logs.name, default_hp_metric=False)

    def _discard_run(self) -> None:
        """Leave the disk as it was: the run has not begun."""
        self._lock.release()
        if self.run_folder is not None:
            discard(self.run_folder)
            self.run_folder = None

    def _discard_unbegun(self) -> None:
        """Discard a new run that made no step; a branch may have saved contexts that it made."""
        run, step = self.run_folder, self.trainer.global_step
        is_kept = run is None or not run.made or (step and (run.checkpoints / LAST).exists())
        if not is_kept and step <= (self._step or 0):
            self._discard_run()

    def _monitor(self) -> list[Callback]:
        """The monitor, and after it, so that it sees what there was to do, the defragmentation."""
        data = self.datamodule.settings
        checkpoints = None if self.run_folder is None else self.run_folder.checkpoints
        monitor = TesseraMonitor(
            **self._setting("monitor"),
            checkpoint_dir=checkpoints,
            board_size=data.board_size,
            rules=data.rules,
        )
        return [monitor, Defragmentation(**self._setting("defragmentation"))]

    def _open_run(self) -> RunFolder:
        ckpt_path, name = self._setting("ckpt_path"), self._setting("run_name")
        root = root_of(self.config[self.subcommand])
        run = run_of(Path(ckpt_path), root) if ckpt_path is not None else None
        if run is not None and run.name != name:
            run = None  # of another name, that one stays as it is
        # The first process's folder is the one that is written to.
        # Known before there is a trainer; of a node's first process its node's.
        if rank := getattr(rank_zero_only, "rank", 0) or int(os.environ.get("NODE_RANK", 0)):
            # One that trains alone would write there, without the lock.
            if not has_several_processes(settings := self._get(self.config_init, "trainer")):
                wanted = "be as many as the processes that were started"
                got = f"{settings.devices} in process {rank}"
                raise SettingError(Problem("trainer.devices", got, wanted))
            return run or latest_run(name, root)
        run = run or new_run(name, root)
        try:
            self._lock.take(run.checkpoints)
        except (CheckpointError, SaveError):
            discard(run)
            raise
        return run

    def _setting(self, name: str) -> Any:
        return self._get(self.config_init, name)

    # What is run.

    def _run_subcommand(self, subcommand: str) -> None:
        keep_signals(self.trainer)
        threads = torch.get_num_threads()
        torch.set_num_threads(self._setting("cpu_threads") or threads)
        try:
            with EndedTogether(self.trainer):
                super()._run_subcommand(subcommand)
        except MisconfigurationException as error:  # the trainer's, of a callback or a logger
            raise SettingError(one_line(str(error))) from error
        finally:
            torch.set_num_threads(threads)

    def fit(self, **kwargs: Any) -> None:
        """Train, and say in the end where everything is."""
        # Only the first process writes; of others, torchrun's, it may be unknown yet where to.
        if self.run_folder is not None and self.trainer.is_global_zero:
            try:
                open_folders(self.run_folder, isinstance(self.trainer.logger, GroupedLogger))
            except FolderError:
                self._discard_run()
                raise
        go_on_without_console()
        has_bar = self.trainer.progress_bar_callback is not None and self.trainer.is_global_zero
        waiting_for("playing the first games" if has_bar else "")
        try:
            self.trainer.fit(**kwargs)
        except BaseException as error:
            self._discard_unbegun()
            if not isinstance(error, Stopped):
                raise
            if self.trainer.is_global_zero:
                where = stopped_where(self.trainer, self.argv, self._setting("ckpt_path"))
                print(f"tessera: {error} {where}", file=sys.stderr)
            raise SystemExit(128 + error.number) from None
        self._discard_unbegun()
        if self.trainer.is_global_zero:
            print("\n".join(closing_lines(self.trainer, self.run_folder, self.argv)))

    def validate(self, **kwargs: Any) -> None:
        """Measure the model on the validation's games."""
        self._measure("val", self.trainer.validate, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measure the model on the test's games."""
        self._measure("test", self.trainer.test, **kwargs)

    def _measure(
        self, games: str, run: Callable[..., Sequence[Mapping[str, float]]], **kwargs: Any
    ) -> None:
        """Print what was measured instead of Lightning's table, and write the file."""
        has_table = kwargs.pop("verbose")
        # Of the one data loader; nothing if there were no batches.
        metrics = next(iter(run(verbose=False, **kwargs)), {})
        if self.trainer.is_global_zero:
            found, path = self.model.calibration, self._setting("ckpt_path")
            measurement = Measurement(path, self._step, games, metrics, found)
            tell(measurement, has_table, self._setting("json"), self._setting("reliability"))

    def predict(self, model: TesseraModule, ckpt_path: str, **kwargs: Any) -> None:
        """Write the distributions of the given games, a line of JSON for each ply."""
        settings = self.datamodule.settings
        files = self._setting("games")
        features = model.model.features
        sees_board = features is not None and features.table in ("board", "position")
        games, warnings = read_games(files, settings.board_size, settings.rules, sees_board)
        for warning in warnings:
            print(f"tessera: warning: {warning}", file=sys.stderr)
        print_predictions(self.trainer, model, games, settings, ckpt_path)
