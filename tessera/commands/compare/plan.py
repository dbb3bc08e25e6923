"""Everything that a comparison will do, as far as it is known before the first run has ended."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from tessera.commands.code_version import code_version
from tessera.commands.compare.count import count, parameters_of
from tessera.commands.compare.matching import matched
from tessera.commands.compare.options import Options
from tessera.commands.compare.rows import Row
from tessera.commands.fit.run_settings import device_of, run_problems
from tessera.data import GameDataModule
from tessera.data.chunk_size import whole_batches
from tessera.go import PLAYERS, play_games
from tessera.model import GameModel, ModelSettings
from tessera.setting_errors import SettingError, under
from tessera.training.objectives import OBJECTIVES

GRID, REPORT = "grid", "report"
# Of the trainer's settings those that the training of a run follows from.
_OF_TRAINER = (
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "deterministic",
    "benchmark",
    "detect_anomaly",
)
_GRID_SEED = 10_000  # the first that is none of those reported
_MOST_TEST_GAMES = 8192
_SAMPLE = 64  # games, whose mean length is what tokens are turned into steps by
_CHUNK = 16  # batches played at once where the memory would decide, which differs by row
_WARM_UP = 10  # the part of a run that it takes at most
_RUN_ID = 12  # hexadecimal digits


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        row: its name.
        phase: grid, to choose a learning rate, or report.
        seed: of weights and training games.
        lr: highest learning rate.
        settings: all that it follows from, see ``training.run_one``.
        run_id: of them and of the code.
    """

    row: str
    phase: str
    seed: int
    lr: float
    settings: dict[str, Any] = field(repr=False, compare=False)
    run_id: str


@dataclass(frozen=True)
class PlannedRow:
    """A model that is compared, and how long it is trained.

    Attributes:
        name: of the row.
        model: all settings of ``TesseraModule``, plain.
        trainer: those of the trainer that its training follows from, plain.
        counted: parameters, bytes of a state, FLOPs of a token, by runs.csv's names.
        lrs: the grid, the least first.
        steps: optimizer steps; None as long as seconds have to be measured first.
        code: version of the program and of the row's own parts.
    """

    name: str
    model: dict[str, Any]
    trainer: dict[str, Any]
    counted: dict[str, Any]
    lrs: list[float]
    steps: int | None
    code: str


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        rows: what is compared, in the order asked for.
        baseline: name of the row that others are matched to and told apart from.
        data: settings of ``GameDataModule``, the same for all rows; ``seed`` is that of the
            validation's and the test's games.
        tokens_per_step: on average, of each row by its name.
        grid_seed: of all grid runs.
        threads: of a run on a CPU; None if the settings leave it open.
        options: what was asked for.
    """

    rows: list[PlannedRow]
    baseline: str
    data: dict[str, Any]
    tokens_per_step: dict[str, float]
    grid_seed: int
    threads: int | None
    options: Options

    def run(self, row: PlannedRow, phase: str, seed: int, lr: float) -> Run:
        """A run of a row whose steps are known."""
        assert row.steps is not None
        options = self.options
        model = {**row.model, "lr": lr}
        if not options.sets("model.decay_steps"):
            model["decay_steps"] = None  # the end of the run
        if not options.sets("model.warmup_steps"):
            model["warmup_steps"] = min(model["warmup_steps"], row.steps // _WARM_UP)
        settings: dict[str, Any] = {
            "row": row.name,
            "phase": phase,
            "seed": seed,
            "lr": lr,
            "model": model,
            "data": {**self.data, "seed": self.data["seed"] + seed},
            "held_out_seed": self.data["seed"],
            "trainer": {**row.trainer, "max_steps": row.steps},
            "is_tested": phase == REPORT,
            "test_on": options.test_on if phase == REPORT else [],
        }
        return Run(row.name, phase, seed, lr, settings, run_id(settings, row.code))

    def with_steps(self, steps: Mapping[str, int]) -> Plan:
        """The plan with the steps of each row by its name."""
        rows = [replace(row, steps=steps[row.name]) for row in self.rows]
        return replace(self, rows=rows)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in plan.json."""
        options = self.options
        return {
            "rows": [asdict(row) for row in self.rows],
            "baseline": self.baseline,
            "match": options.match,
            "tokens": options.tokens,
            "seconds": options.seconds,
            "lrs": options.lrs,
            "lr_extensions": options.lr_extensions,
            "seeds": options.seeds,
            "grid_seed": self.grid_seed,
            "test_on": options.test_on,
            "data": {name: value for name, value in self.data.items() if value is not None},
            "tokens_per_step": self.tokens_per_step,
            "processes": options.processes,
            "processes_per_gpu": options.processes_per_gpu,
            "code": code_version(),
        }


def run_id(settings: Mapping[str, Any], code: str) -> str:
    """What tells runs apart: hexadecimal digits of all resolved settings and the code's version."""
    text = json.dumps({"settings": settings, "code": code}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_RUN_ID]


def plan_of(rows: Sequence[Row], options: Options) -> Plan:
    """Look at everything that can be known, match the rows, and count.

    Raises:
        SettingError: with a problem for everything that is wrong.
    """
    problems: list[Any] = []
    for row in rows:
        found = [*run_problems(row.settings, row.defaults, "fit"), *_data_problems(row)]
        problems += [f"{row.name}: {problem}" for problem in found]
    if problems:
        raise SettingError(*problems)
    names = [row.name for row in rows]
    baseline = names[0] if options.baseline is None else options.baseline
    if baseline not in names:
        raise SettingError(f"--baseline must be one of {', '.join(names)}, got {baseline}.")
    data = _data(rows)
    wrong = [player for player in options.test_on if player not in PLAYERS]
    if wrong:
        raise SettingError(f"--test_on must be of {', '.join(PLAYERS)}, got {', '.join(wrong)}.")
    length, longest = _lengths(data)
    (first,) = (row.model for row in rows if row.name == baseline)
    planned, per_step = list[PlannedRow](), dict[str, float]()
    for row in rows:
        model = row.model
        if options.match == "params" and row.name != baseline:
            with under(f"{row.name}: model"):
                model = matched(model, first)
        trainer = _trainer(row)
        accumulated = trainer.get("accumulate_grad_batches") or 1
        per_step[row.name] = length * data["batch_size"] * accumulated
        settings = {**row.settings.model.as_dict(), **model.as_dict()}
        lr = settings["lr"]
        planned.append(
            PlannedRow(
                name=row.name,
                model=settings,
                trainer=trainer,
                counted=_counted(model, round(length), longest),
                lrs=options.lrs or [lr / 2, lr, lr * 2],
                steps=_steps(options, per_step[row.name]),
                code=code_version(model.own_parts()),
            )
        )
    taken = set(options.seeds)
    grid_seed = next(seed for seed in range(_GRID_SEED, _GRID_SEED + 2**16) if seed not in taken)
    options = replace(options, test_on=[x for x in options.test_on if x != data["player"]])
    threads = rows[0].settings.cpu_threads
    return Plan(planned, baseline, data, per_step, grid_seed, threads, options)


def _steps(options: Options, tokens_per_step: float) -> int | None:
    if options.tokens is None or options.match == "seconds":
        return None
    return max(1, math.ceil(options.tokens / tokens_per_step))


def _data_problems(row: Row) -> list[str]:
    data, found = row.settings.data, list[str]()
    if data.context is not None:
        found.append(
            "data.context must be null: only of whole games is the floor within reach, "
            f"got {data.context}."
        )
    objective = row.settings.model.objective
    compared = [name for name, record in OBJECTIVES.items() if record.predicts_moves]
    if objective in OBJECTIVES and objective not in compared:
        found.append(
            f"model.objective must be {' or '.join(compared)}, which end in what rows are compared "
            f"by, got {objective}."
        )
    if not isinstance(data.batch_size, int):
        found.append(
            "data.batch_size must be a number: each memory would find another one, "
            f"got {'null' if data.batch_size is None else data.batch_size}."
        )
    if data.selfplay_share:
        found.append(
            "data.selfplay_share must be 0: all rows are trained on the same games, "
            f"got {data.selfplay_share}."
        )
    return found


def _data(rows: Sequence[Row]) -> dict[str, Any]:
    """The settings of the games, which all rows have to share.

    Raises:
        SettingError: with every one that differs.
    """
    (name, first), *others = [(row.name, dict(row.settings.data.as_dict())) for row in rows]
    problems = [
        f"data.{key} must be the same for all rows: {value} in {name}, {other[key]} in {theirs}."
        for theirs, other in others
        for key, value in first.items()
        if other[key] != value
    ]
    if problems:
        raise SettingError(*dict.fromkeys(problems))
    batch = first["batch_size"]
    if first["games_per_chunk"] is None:
        first["games_per_chunk"] = whole_batches(_CHUNK * batch, batch, 1)
    first["test_batches"] = min(first["test_batches"], math.ceil(_MOST_TEST_GAMES / batch))
    return first


def _trainer(row: Row) -> dict[str, Any]:
    given = row.settings.trainer.as_dict()
    found = {name: given[name] for name in _OF_TRAINER if given.get(name) is not None}
    is_gpu = device_of(row.settings).type == "cuda"
    return {**found, "accelerator": "gpu" if is_gpu else "cpu"}


def _lengths(data: Mapping[str, Any]) -> tuple[float, int]:
    """Mean targets of a game, of a few games that are played here; and the moves of the longest."""
    settings = GameDataModule(**data).settings
    record = play_games(
        settings.player,
        range(_SAMPLE),
        seed=settings.seed,
        board_size=settings.board_size,
        rules=settings.rules,
        skip_settled=settings.skip_settled,
    )
    return float(record.lengths.double().mean()) + 1, settings.rules.move_limit(settings.board_size)


def _counted(model: ModelSettings, length: int, longest: int) -> dict[str, Any]:
    with torch.device("meta"):
        parameters = parameters_of(GameModel(model))
    total = sum(parameters.values())
    sizes = {"N": total, "n_non_embedding": total - parameters.get("embedding", 0)}
    try:
        found = count(model, [length], [longest])
    except Exception:
        # A user's own part may do what cannot be done without memory; the rest is then unknown.
        if not model.own_parts():
            raise
        return sizes
    return {
        **sizes,
        "state_bytes": found.state_bytes[longest],
        "flops_per_token": found.flops_per_token[length],
    }
