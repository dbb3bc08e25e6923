"""``tessera export``: a trained model as one file of safetensors, without its optimizer."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.commands.arguments import (
    WHICH_MODEL,
    OneLineParser,
    add_own_option,
    find_device,
)
from tessera.commands.console import waiting_for
from tessera.commands.ending import say, say_which
from tessera.commands.json_file import tell
from tessera.commands.light_metrics import load_metrics_lightly
from tessera.commands.one_line import one_line
from tessera.commands.output_file import file_problems, write_file
from tessera.commands.packages import version_of

if TYPE_CHECKING:
    import torch

    from tessera.commands.export.report import Report

_ENDING = ".safetensors"
_MOST_GAMES = 100_000
_FLOATS = ("float32", "bfloat16", "float16")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tessera export`` with these arguments (those of the process if None).

    Returns:
        0; 1 if what the model says is not finite; 2 for a mistake in what was asked for.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    device = _checked(parser, arguments)
    load_metrics_lightly()
    # Here, so that a wrong argument is found before torch and Lightning are loaded.
    from tessera.commands.quiet import quieten
    from tessera.setting_errors import SettingError
    from tessera.training.checkpoint_content import read_checked
    from tessera.training.checkpoint_file import CheckpointError
    from tessera.training.checkpoint_parts import ContentError
    from tessera.training.export import exported
    from tessera.training.run_folder import find_checkpoint

    quieten()
    try:
        path = find_checkpoint(arguments.ckpt_path, arguments.run_name)
        if os.path.realpath(path) == os.path.realpath(arguments.output):
            return say(f"--output must be another file than the model's, got {path}.", 2)
        checkpoint = read_checked(path, is_fit=False, named=arguments.own)
        precision = "int8" if arguments.int8 else arguments.dtype
        content = exported(checkpoint, precision, version_of("tessera") or "0")
    except (SettingError, CheckpointError) as error:
        return say(one_line(" ".join(str(error).splitlines())), 2)
    except ContentError as error:
        return say(one_line(f"{path} cannot be exported: {error}."), 2)
    report = _measured(arguments, path, checkpoint, content, precision, device)
    if report.effect is not None and not report.effect.is_finite():
        return say(f"{path}: what the model says of the games of the test is not finite.", 1)
    write_file(arguments.output, content)
    tell(report.lines(), arguments.json, report.as_json())
    say_which(arguments.ckpt_path, path)
    return 0


def _measured(
    arguments: argparse.Namespace,
    path: Path,
    checkpoint: dict[str, Any],
    content: bytes,
    precision: str | None,
    device: torch.device,
) -> Report:
    from tessera.commands.export.effect import measure_effect
    from tessera.commands.export.report import Report
    from tessera.commands.machine import machine_name
    from tessera.training.export import (
        precision_of,
        weight_errors,
        weights_of,
        written_precision,
    )
    from tessera.training.exported_file import read_exported
    from tessera.training.run_folder import name_of_model

    before, written = precision_of(checkpoint), written_precision(checkpoint, precision)
    errors = weight_errors(weights_of(checkpoint), precision, before)
    effect = machine = None
    if any(error.largest for error in errors):
        waiting_for(f"predicting {arguments.games} games")
        after = read_exported(io.BytesIO(content))
        effect = measure_effect(checkpoint, after, arguments.games, device)
        machine = machine_name(device)
        waiting_for("")
    sizes = (path.stat().st_size, arguments.output, len(content))
    step = checkpoint.get("global_step")
    precisions = (precision, before, written)
    return Report(name_of_model(path), step, *sizes, *precisions, errors, effect, machine)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="tessera export", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--ckpt_path", metavar="FILE", required=True, help=WHICH_MODEL)
    add("--run_name", default="quickstart", help="whose newest run that is (default: quickstart)")
    add("--output", metavar="FILE", required=True, help=f"a name that ends in {_ENDING}")
    how = parser.add_mutually_exclusive_group()
    what = "round matrices, embedding and convolutions to 8 bits, a scale for each output channel"
    how.add_argument("--int8", action="store_true", help=what)
    what = f"round them to {', '.join(_FLOATS)} instead (default: as they are)"
    how.add_argument("--dtype", choices=_FLOATS, metavar="TYPE", help=what)
    what = "of the test, to measure what the rounding does to the model (default: 8)"
    add("--games", type=int, default=8, metavar="N", help=what)
    add_own_option(parser)
    add("--json", metavar="FILE", help="also write the figures; - is standard output, alone")
    add("--device", default="auto", help="cuda, cpu, ...; auto takes the GPU if there is one")
    return parser


def _checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> torch.device:
    """The device, once every argument has been looked at."""
    problems = []
    if not arguments.ckpt_path:
        problems.append("--ckpt_path must name the model, or be last; got none.")
    if Path(arguments.output).suffix != _ENDING:
        problems.append(f"--output must end in {_ENDING}, got {arguments.output or 'none'}.")
    else:
        problems += file_problems(arguments.output, "--output", is_model=True)
    if not 1 <= arguments.games <= _MOST_GAMES:
        problems.append(f"--games must be 1 to {_MOST_GAMES:,}, got {arguments.games}.")
    json_file = arguments.json
    if json_file and os.path.realpath(json_file) == os.path.realpath(arguments.output):
        problems.append(f"--json must be another file than --output, got {json_file}.")
    if not problems:
        waiting_for("loading torch and Lightning")
    return find_device(arguments, parser, problems)
