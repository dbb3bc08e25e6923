"""What ``tessera scaling`` is asked: its own options, checked, and those of ``tessera fit``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessera.commands.arguments import OneLineParser, finite_number
from tessera.commands.scaling.fit_command import add_fit_options
from tessera.commands.scaling.runs_file import LEAST_RUNGS

OF_FIT = ("--model.", "--data.", "--trainer.", "--cpu_threads")
# Settings that a ladder decides itself, and what it is told by.
_OWN = {
    "model.stable_steps": "see --cooldown",
    "model.decay_steps": "see --tokens and --cooldown",
    "trainer.max_steps": "see --tokens",
    "trainer.min_steps": "see --tokens",
    "trainer.max_epochs": "see --tokens",
    "trainer.min_epochs": "see --tokens",
    "trainer.max_time": "see --tokens",
    "trainer.devices": "a ladder has one",
    "trainer.num_nodes": "a ladder has one device",
    "trainer.strategy": "a ladder has one device",
    "trainer.logger": "see --folder",
    "trainer.default_root_dir": "see --folder",
    "trainer.callbacks": "a run has its own",
    "trainer.val_check_interval": "a rung is validated at its end",
    "trainer.check_val_every_n_epoch": "a rung is validated at its end",
}
_MOST_RUNGS = 64
_MOST_SEED = 2**32 - 1
_MOST_TOKENS = 10**15


@dataclass(frozen=True)
class Options:
    """A ladder.

    Attributes:
        rows: configurations, joined by +.
        configs: read behind those of every row.
        tokens: the budgets, the least first.
        sizes: values of model.d_model; none for each row's own.
        seeds: of weights and games; one ladder each.
        cooldown: the part of a budget in which the learning rate falls, between 0 and 1.
        folder: where everything goes; None for the usual one.
        is_dry: whether only to say what would be done.
        fit: options of ``tessera fit`` for every row.
    """

    rows: list[str]
    configs: list[str]
    tokens: list[int]
    sizes: list[int]
    seeds: list[int]
    cooldown: float
    folder: str | None
    is_dry: bool
    fit: list[str]

    def sets(self, name: str) -> bool:
        """Whether a setting of ``tessera fit`` is given on the command line."""
        return any(each.partition("=")[0] == f"--{name}" for each in self.fit)


def parser() -> argparse.ArgumentParser:
    """The parser of the command's own options."""
    parser = OneLineParser(
        prog="tessera scaling",
        description="Train models on a ladder of token budgets, and fit how their loss falls. All "
        "budgets share one run with a stable learning rate, from which each branches off to cool "
        "down; every rung is measured on the same test games. A ladder that was interrupted goes "
        "on where it was, and rungs that are there are used again. tessera scaling fit RUNS.CSV "
        "fits without training.",
        epilog="Settings of the model, the data and the trainer, such as --data.batch_size 128, "
        "hold for all rows; they are those of tessera fit.",
        usage="tessera scaling ROW … (--tokens N,… | --from N --to N --rungs COUNT) [options]\n"
        "       tessera scaling fit RUNS.CSV [options]",
        allow_abbrev=False,
    )
    add = parser.add_argument
    what = "a configuration, by its name or file, or several joined by +, of which the last wins"
    add("rows", nargs="+", metavar="ROW", help=f"{what}, such as board_9x9+uniform_9x9")
    what = "a configuration that is read behind each row's own, so that it wins; repeatable"
    add("--config", "-c", action="append", default=[], metavar="CONFIG", help=what)
    add("--tokens", metavar="N,…", help=f"the budgets, {LEAST_RUNGS} or more, such as 1e6,3e6,1e7")
    add("--from", metavar="N", help="the least budget, instead of --tokens")
    add("--to", metavar="N", help="the largest budget; those between grow by one factor")
    add("--rungs", metavar="COUNT", default="7", help="how many budgets (default: 7)")
    what = "several values of model.d_model, each a ladder (default: the row's own)"
    add("--sizes", metavar="D,…", default="", help=what)
    what = "ladders of other weights and other games (default: 0)"
    add("--seeds", metavar="SEED,…", default="0", help=what)
    what = "the part of each budget in which the learning rate falls (default: 0.2)"
    add("--cooldown", metavar="PART", default="0.2", help=what)
    add("--folder", metavar="DIR", help="default: lightning_logs/scaling/NAME")
    what = "print rungs, sizes, FLOPs and the expected time; keep nothing"
    add("--dry-run", "--dry_run", action="store_true", dest="is_dry", help=what)
    add_fit_options(parser)
    return parser


def options_of(arguments: argparse.Namespace, fit: list[str]) -> tuple[Options, list[str]]:
    """The options, and why they cannot be obeyed, a sentence each.

    Args:
        arguments: parsed.
        fit: settings of ``tessera fit``.
    """
    problems: list[str] = []

    def listed(name: str, low: int, high: int, wanted: str) -> list[int]:
        text = getattr(arguments, name)
        values = [_whole(part, low, high) for part in text.split(",")] if text else []
        found = [value for value in values if value is not None]
        if len(set(found)) < len(values):
            problems.append(f"--{name} must be {wanted}, got {text}.")
            return []
        return found

    wanted = f"different whole numbers from 1 to {_MOST_TOKENS:.0e}, such as 1e6,3e6,1e7"
    tokens = listed("tokens", 1, _MOST_TOKENS, wanted)
    ends = [("from", getattr(arguments, "from")), ("to", arguments.to)]
    has_ends = any(text is not None for _, text in ends)
    if (arguments.tokens is None) != has_ends:
        problems.append("either --tokens or --from and --to must say the budgets.")
    elif has_ends:
        tokens = _grown(ends, arguments.rungs, problems)
    elif tokens and not LEAST_RUNGS <= len(tokens) <= _MOST_RUNGS:
        problems.append(
            f"--tokens must be {LEAST_RUNGS} to {_MOST_RUNGS} budgets, got {len(tokens)}."
        )
    elif not tokens and not arguments.tokens:
        problems.append(f"--tokens must be {wanted}, got nothing.")
    sizes = listed("sizes", 1, 2**20, "different whole numbers of at least 1, such as 64,128,256")
    seeds = listed("seeds", 0, _MOST_SEED, f"different whole numbers, 0 to {_MOST_SEED}")
    if not seeds and not arguments.seeds:
        problems.append("--seeds must be at least one, got none.")
    cooldown = finite_number(arguments.cooldown)
    if cooldown is None or not 0 < cooldown < 1:
        problems.append(
            f"--cooldown must be more than 0 and less than 1, got {arguments.cooldown}."
        )
    if arguments.folder == "":
        problems.append("--folder must name a folder, got none.")
    problems += _own_problems(fit, bool(sizes))
    options = Options(
        rows=list(dict.fromkeys(arguments.rows)),
        configs=arguments.config,
        tokens=sorted(tokens),
        sizes=sorted(sizes),
        seeds=seeds,
        cooldown=cooldown or 0.0,
        folder=arguments.folder,
        is_dry=arguments.is_dry,
        fit=fit,
    )
    return options, problems


def _grown(ends: Sequence[tuple[str, str | None]], rungs: str, problems: list[str]) -> list[int]:
    """Budgets that grow by one factor."""
    found = []
    for name, text in ends:
        value = None if text is None else _whole(text, 1, _MOST_TOKENS)
        if value is None:
            got = "nothing" if text is None else text
            problems.append(f"--{name} must be a whole number of tokens, such as 1e6, got {got}.")
        else:
            found.append(value)
    count = _whole(rungs, LEAST_RUNGS, _MOST_RUNGS)
    if count is None:
        problems.append(f"--rungs must be {LEAST_RUNGS} to {_MOST_RUNGS}, got {rungs}.")
    if len(found) < 2 or count is None:
        return []
    low, high = found
    if high <= low:
        problems.append(f"--to must be more than --from, {low:,}, got {high:,}.")
        return []
    return [round(low * (high / low) ** (nth / (count - 1))) for nth in range(count)]


def _own_problems(fit: Iterable[str], has_sizes: bool) -> list[str]:
    """Settings that are not the user's here."""
    own = {**_OWN, "model.d_model": "see --sizes"} if has_sizes else _OWN
    given = (argument.partition("=")[0].removeprefix("--").rstrip("+") for argument in fit)
    names = dict.fromkeys(".".join(name.split(".")[:2]) for name in given)
    return [f"--{name} is the ladder's own: {own[name]}." for name in names if name in own]


def _whole(text: str, low: int, high: int) -> int | None:
    value = finite_number(text)
    is_one = value is not None and value == int(value) and low <= value <= high
    return int(value) if is_one and value is not None else None
