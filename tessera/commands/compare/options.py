"""What ``tessera compare`` is asked: its own options, checked, and those of ``tessera fit``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tessera.commands.arguments import OneLineParser, finite_number
from tessera.commands.named_configs import model_names
from tessera.vocabulary import MAX_CONTEXT

OF_FIT = ("--model.", "--data.", "--trainer.", "--cpu_threads")
_CONFIG = ("--config", "-c")
# What a comparison sets itself, and by which option it is told to.
_OWN = {
    "max_steps": "see --tokens and --seconds",
    "min_steps": "see --tokens and --seconds",
    "max_epochs": "see --tokens and --seconds",
    "min_epochs": "see --tokens and --seconds",
    "max_time": "see --seconds",
    "devices": "a run has one; see --processes and --processes_per_gpu",
    "num_nodes": "a run has one device",
    "strategy": "a run has one device",
    "logger": "see --folder",
    "default_root_dir": "see --folder",
    "callbacks": "a run has its own",
    "val_check_interval": "it validates at about eight steps that grow by a factor",
    "check_val_every_n_epoch": "it validates at about eight steps that grow by a factor",
}
MATCHES = ("tokens", "params", "seconds")
_MOST_SEED = 2**32 - 1
_MOST_PROCESSES = 64
# Names under which others publish what is a part here.
ALIASES = {"gated_delta_net": "gated_delta", "gated_deltanet": "gated_delta"}


@dataclass(frozen=True)
class Options:
    """What is compared and how.

    Attributes:
        rows: configurations, joined by +; none where a mixer alone makes a row.
        configs: read behind those of every row.
        mixers: names or class paths, one row each; empty if the rows' own mixers are compared.
        baseline: name of the row that the others are matched to; None for the first.
        match: what all rows have alike: tokens, params or seconds.
        tokens: to train each run on; None if seconds say it.
        seconds: to train each run; None if tokens say it.
        lrs: learning rates to choose from, the least first; empty for those around the row's own.
        lr_extensions: how many more may be tried, while the best lies at an edge.
        seeds: of the runs that are reported.
        test_on: players on whose games each model is tested beside its own player's.
        folder: where everything goes; None for the usual one.
        processes: on a CPU.
        processes_per_gpu: on each GPU.
        is_dry: whether only to say what would be done.
        json: where the figures of a dry run go beside the table.
        fit: options of ``tessera fit`` for every row.
    """

    rows: list[str]
    configs: list[str]
    mixers: list[str]
    baseline: str | None
    match: str
    tokens: int | None
    seconds: float | None
    lrs: list[float]
    lr_extensions: int
    seeds: list[int]
    test_on: list[str]
    folder: str | None
    processes: int
    processes_per_gpu: int
    is_dry: bool
    json: str | None
    fit: list[str]

    def sets(self, name: str) -> bool:
        """Whether a setting of ``tessera fit`` is given on the command line."""
        return any(each.partition("=")[0] == f"--{name}" for each in self.fit)


def parser() -> argparse.ArgumentParser:
    """The parser of the command's own options."""
    parser = OneLineParser(
        prog="tessera compare",
        description="Train models beside each other on the same games, each at a learning rate of "
        "its own that is chosen on validation games, and report what they are worth on test games, "
        "with fresh weights and games for each seed. A comparison that was interrupted goes on "
        "where it was. With --count nothing is trained: it counts parameters by part, the bytes "
        "that a game's state takes, and the FLOPs of a forward pass, as far as they are products; "
        "of nothing else all models that come with the program, and what the sibling designs "
        "published of their sizes. "
        "tessera compare report FOLDER draws what a folder holds.",
        epilog="Settings of the model, the data and the trainer, such as --model.d_model 128 or "
        "--data.board_size 9, hold for all rows; they are those of tessera fit.",
        usage="tessera compare [ROW …] [--config CONFIG] [--mixers NAME,…] (--tokens N | "
        "--seconds S) [options]\n       tessera compare [ROW …] --count [LENGTH …] [--json FILE]",
        allow_abbrev=False,
    )
    add = parser.add_argument
    rows = (
        f"a configuration, by its name or file, or several joined by +, of which the last wins, "
        f"such as transformer+uniform_9x9; to count, by default {', '.join(model_names())}"
    )
    add("rows", nargs="*", metavar="ROW", help=rows)
    what = f"positions of a game at which states and FLOPs are counted (default: {MAX_CONTEXT})"
    add("--count", nargs="*", type=int, metavar="LENGTH", help=what)
    what = "also write the figures of --count or --dry-run; - is standard output, alone"
    add("--json", metavar="FILE", help=what)
    what = "a configuration that is read behind each row's own, so that it wins; repeatable"
    add("--config", "-c", action="append", default=[], metavar="CONFIG", help=what)
    what = "a row for each of these mixers instead, or class paths of yours, or all"
    add("--mixers", metavar="NAME,…", help=what)
    what = "what rows have alike: tokens, with sizes as configured; params, those without the "
    what += "embedding, by their d_model; or seconds of training (default: tokens)"
    add("--match", choices=MATCHES, default="tokens", help=what)
    what = "the row that others are matched to and told apart from (default: the first)"
    add("--baseline", metavar="NAME", help=what)
    add("--tokens", metavar="N", help="tokens that each run trains on, such as 2e7")
    what = "seconds that each run trains, without its start and its validations"
    add("--seconds", metavar="S", help=what)
    what = "learning rates to choose from; one alone is taken as it is (default: half the row's "
    what += "model.lr, itself and twice it)"
    add("--lrs", metavar="LR,…", help=what)
    what = "more of them to try, by the grid's own factor, while the best lies at its edge "
    add("--lr_extensions", metavar="N", default="2", help=what + "(default: 2)")
    what = "a reported run for each, of fresh weights and games (default: 0,1,2)"
    add("--seeds", metavar="SEED,…", default="0,1,2", help=what)
    what = "players on whose games each model is tested too, such as uniform,rules"
    add("--test_on", metavar="PLAYER,…", default="", help=what)
    add("--folder", metavar="DIR", help="default: lightning_logs/compare/NAME")
    what = "runs at once on a CPU (default: 1)"
    add("--processes", metavar="N", default="1", help=what)
    what = "runs at once on each GPU; with more than one no speed is told (default: 1)"
    add("--processes_per_gpu", metavar="N", default="1", help=what)
    what = "print runs, sizes and the expected time; train and write nothing"
    add("--dry-run", "--dry_run", action="store_true", dest="is_dry", help=what)
    return parser


def options_of(arguments: argparse.Namespace, fit: list[str]) -> tuple[Options | None, list[str]]:
    """The options, or why they cannot be obeyed, a sentence each.

    Args:
        arguments: parsed.
        fit: settings of ``tessera fit``.
    """
    problems: list[str] = []

    def whole(name: str, low: int, high: int) -> int:
        text = getattr(arguments, name)
        number = finite_number(text)
        if number is None or number != int(number) or not low <= number <= high:
            problems.append(f"--{name} must be {low} to {high}, got {text}.")
            return low
        return int(number)

    def listed(name: str, read: Callable[[str], Any], wanted: str) -> list[Any]:
        text = getattr(arguments, name)
        values = [] if text in (None, "") else [read(part.strip()) for part in text.split(",")]
        if any(value is None for value in values) or len(set(values)) < len(values):
            problems.append(f"--{name} must be {wanted}, got {text}.")
            return []
        return values

    lrs = listed("lrs", _positive, "different numbers more than 0, such as 1e-3,2e-3,4e-3")
    seeds = listed("seeds", _seed, f"different whole numbers, 0 to {_MOST_SEED}, such as 0,1,2")
    mixers = listed("mixers", _name, "different names of mixers, class paths, or all")
    test_on = listed("test_on", _name, "different names of players")
    tokens, seconds = (
        None if text is None else _positive(text) for text in (arguments.tokens, arguments.seconds)
    )
    for name, text, value in (
        ("tokens", arguments.tokens, tokens),
        ("seconds", arguments.seconds, seconds),
    ):
        if text is not None and value is None:
            problems.append(f"--{name} must be more than 0, such as 2e7, got {text}.")
    if tokens is not None and (tokens < 1 or tokens != int(tokens)):
        problems.append(f"--tokens must be a whole number, got {arguments.tokens}.")
    if (arguments.tokens is None) == (arguments.seconds is None):
        problems.append(
            "either --tokens or --seconds must say how long each run trains; --count only counts."
        )
    if not (arguments.rows or arguments.config or arguments.mixers):
        problems.append("ROW, --mixers or --config must say what to train.")
    if arguments.seeds == "":
        problems.append("--seeds must be at least one, got none.")
    if arguments.folder == "":
        problems.append("--folder must name a folder, got none.")
    if arguments.json is not None and not arguments.is_dry:
        problems.append("--json must come with --count or --dry-run; a comparison has runs.csv.")
    problems += _own_problems(fit)
    options = Options(
        rows=arguments.rows,
        configs=arguments.config,
        mixers=mixers,
        baseline=arguments.baseline,
        match=arguments.match,
        tokens=None if tokens is None else int(tokens),
        seconds=seconds,
        lrs=sorted(lrs),
        lr_extensions=whole("lr_extensions", 0, 20),
        seeds=seeds,
        test_on=test_on,
        folder=arguments.folder,
        processes=whole("processes", 1, _MOST_PROCESSES),
        processes_per_gpu=whole("processes_per_gpu", 1, _MOST_PROCESSES),
        is_dry=arguments.is_dry,
        json=arguments.json,
        fit=fit,
    )
    return (None, problems) if problems else (options, [])


def _own_problems(fit: Iterable[str]) -> list[str]:
    """Settings of the trainer that are not the user's here."""
    given = (argument.partition("=")[0].partition("--trainer.")[2] for argument in fit)
    names = dict.fromkeys(name.partition(".")[0].rstrip("+") for name in given)
    return [f"--trainer.{name} is compare's own: {_OWN[name]}." for name in names if name in _OWN]


def _positive(text: str) -> float | None:
    value = finite_number(text)
    return value if value is not None and value > 0 else None


def _seed(text: str) -> int | None:
    is_one = re.fullmatch(r"\d{1,10}", text) and int(text) <= _MOST_SEED
    return int(text) if is_one else None


def _name(text: str) -> str | None:
    return ALIASES.get(text, text) if text and text.isprintable() else None
