"""The options that are no part of the trainer, the model or the data, and the order of --help."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from tessera.monitor import Defragmentation, TesseraMonitor
from tessera.vocabulary import num_tokens

# What the monitor is told of the other settings.
_FILLED_IN = {"checkpoint_dir", "board_size", "rules"}


def add_run_options(parser: LightningArgumentParser) -> None:
    """Add what every command takes, so that one file serves all; only fit has a use for most."""
    parser.add_argument(
        "--run_name",
        type=str | None,
        default=None,
        help="Runs of one name lie side by side in checkpoints/NAME and lightning_logs/NAME. "
        "Without it the name of the first configuration. With --ckpt_path another run's name "
        "branches off from that checkpoint.",
    )
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="A new run begins with the weights of this model: a checkpoint, an exported file, a "
        "run's name, or last. All of them must fit; board, data and objective may be others.",
    )
    parser.add_argument(
        "--checkpoint_every_n_steps",
        type=int,
        default=500,
        help="Steps between two checkpoints; one is also written at the end.",
    )
    parser.add_argument(
        "--export_every_n_steps",
        type=int,
        default=0,
        help="Steps between two exported models, step_N.safetensors beside last.ckpt, all of which "
        "stay; 0 for none.",
    )
    parser.add_argument(
        "--picture_every_n_validations",
        type=int,
        default=1,
        help="Validations between two pictures in TensorBoard, of a game and of the calibration; "
        "0 for none.",
    )
    parser.add_argument(
        "--cpu_threads",
        type=int | None,
        default=None,
        help="Threads that torch computes with on a CPU; null lets torch take all cores.",
    )
    parser.add_class_arguments(
        TesseraMonitor, "monitor", instantiate=False, skip=_FILLED_IN, sub_configs=True
    )
    parser.add_class_arguments(
        Defragmentation, "defragmentation", instantiate=False, sub_configs=True
    )
    # Plain arithmetic, because a wrong board size is reported together with everything else.
    vocab_size = lambda board_size: num_tokens(board_size or 0)  # noqa: E731
    parser.link_arguments("data.board_size", "model.vocab_size", compute_fn=vocab_size)


def add_command_options(parser: LightningArgumentParser, command: str) -> None:
    """Add what only one or two commands take."""
    if command == "predict":
        parser.add_argument(
            "--games",
            nargs="+",
            type=str,
            default=[],
            help="SGF files, or text files with one game a line, moves as GTP vertices; "
            "- is standard input.",
        )
    if command in ("validate", "test"):
        parser.add_argument(
            "--json",
            type=str | None,
            default=None,
            help="A file for the metrics with all their digits; - is standard output, in place of "
            "the table.",
        )
        parser.add_argument(
            "--reliability",
            type=str | None,
            default=None,
            help="A file for the picture of the calibration; a name that ends in .png or .svg.",
        )


def order_help(parser: LightningArgumentParser, command: str) -> None:
    """Let ``--help`` begin with the run, the model and the data, and end with the trainer."""
    # A usage that names every option would be a hundred lines.
    parser.usage = f"tessera {command} [options]"
    sections = parser.groups
    assert sections is not None
    trainer, of_command = sections["trainer"], sections[command]
    of_command.title = "The checkpoint"
    groups = [group for group in parser._action_groups if group not in (trainer, of_command)]
    # The first two are argparse's own: what has no name of its own, and the options of no section.
    parser._action_groups = [*groups[:2], of_command, *groups[2:], trainer]
