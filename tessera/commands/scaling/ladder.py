"""Ladders of token budgets: which runs they consist of, known before anything is trained.

A ladder is one model with one seed. Its trunk is a run whose learning rate stays highest; each rung
is the run that leaves the trunk where its cool-down begins. A rung's learning rate is a function of
the step, the same as the trunk's until there, and so are its games: it has the bits of a run that
was trained alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tessera.commands.compare.options import Options as CompareOptions
from tessera.commands.compare.plan import REPORT, Plan, PlannedRow, Run, plan_of, run_id
from tessera.commands.compare.rows import Row, read_rows
from tessera.commands.scaling.options import Options
from tessera.setting_errors import SettingError

STABLE = 2**62  # steps that no run has
_LEAST_STEPS = 8  # of the smallest rung
_WARM_UP = 0.5  # the part of the smallest rung's stable steps that it takes at most


@dataclass(frozen=True)
class Rung:
    """One token budget of a ladder.

    Attributes:
        tokens: asked for; how many it has become, the run counts.
        branch: the step at which it leaves the trunk.
        steps: optimizer steps in all.
        run: as compare knows it.
    """

    tokens: int
    branch: int
    steps: int
    run: Run = field(repr=False)


@dataclass(frozen=True)
class Ladder:
    """One model with one seed.

    Attributes:
        row: its name; that of several sizes is the same.
        size: model.d_model.
        seed: of the weights and the games.
        tokens_per_step: on average.
        counted: parameters, bytes of a state, FLOPs of a token, by runs.csv's names.
        trunk: settings of the run that all rungs branch off, but for its steps.
        trunk_id: of them and of the code.
        rungs: the fewest tokens first.
    """

    row: str
    size: int
    seed: int
    tokens_per_step: float
    counted: dict[str, Any]
    trunk: dict[str, Any] = field(repr=False)
    trunk_id: str
    rungs: tuple[Rung, ...]


def ladders_of(options: Options) -> tuple[Plan, list[Ladder]]:
    """Look at everything that can be known.

    Returns:
        compare's plan of the rows, and the ladders in the order in which they are trained.

    Raises:
        SettingError: with a problem for everything that is wrong.
        SystemExit: what the parser cannot read, once it has said so.
    """
    named: dict[str, str] = {}  # the rows' names by those of the plan, which has one for each size
    rows: list[Row] = []
    sizes: list[int | None] = [*options.sizes] or [None]
    for size in sizes:
        wide = [] if size is None else ["--model.d_model", str(size)]
        for row in read_rows(options.rows, [*options.fit, *wide], options.configs):
            name = row.name if size is None else f"{row.name}, d_model {size}"
            named[name] = row.name
            rows.append(row._replace(name=name))
    plan = plan_of(rows, _for_compare(options))
    ladders = [
        _ladder(plan, planned, named[planned.name], seed, options)
        for planned in plan.rows
        for seed in options.seeds
    ]
    order = {name: nth for nth, name in enumerate(options.rows)}
    return plan, sorted(ladders, key=lambda ladder: (order[ladder.row], ladder.size, ladder.seed))


def _ladder(plan: Plan, planned: PlannedRow, name: str, seed: int, options: Options) -> Ladder:
    model, per_step = planned.model, plan.tokens_per_step[planned.name]
    steps = [round(tokens / per_step) for tokens in options.tokens]
    _check(options.tokens, steps, per_step)
    branches = [max(1, round(count * (1 - options.cooldown))) for count in steps]
    branches = [min(branch, count - 1) for branch, count in zip(branches, steps, strict=True)]
    warmup = model["warmup_steps"]
    if not options.sets("model.warmup_steps"):
        warmup = min(warmup, int(_WARM_UP * branches[0]))
    elif warmup > branches[0]:
        raise SettingError(
            f"model.warmup_steps must be at most {branches[0]}, after which the first cool-down "
            f"begins, got {warmup}."
        )
    whole = plan.run(replace(planned, steps=steps[-1]), REPORT, seed, model["lr"]).settings
    whole = {**whole, "row": name, "num_points": 1}

    def with_schedule(stable: int, decay: int | None, **more: Any) -> dict[str, Any]:
        schedule = {"warmup_steps": warmup, "stable_steps": stable, "decay_steps": decay}
        return {**whole, **more, "model": {**whole["model"], **schedule}}

    rungs = []
    for tokens, branch, count in zip(options.tokens, branches, steps, strict=True):
        trainer = {**whole["trainer"], "max_steps": count}
        settings = with_schedule(branch, count, trainer=trainer)
        run = Run(name, REPORT, seed, model["lr"], settings, run_id(settings, planned.code))
        rungs.append(Rung(tokens, branch, count, run))
    trainer = {key: value for key, value in whole["trainer"].items() if key != "max_steps"}
    trunk = with_schedule(STABLE, None, trainer=trainer)
    size, identity = model["d_model"], run_id(trunk, planned.code)
    return Ladder(name, size, seed, per_step, planned.counted, trunk, identity, tuple(rungs))


def _check(tokens: Sequence[int], steps: Sequence[int], per_step: float) -> None:
    """Budgets must be of so many steps that they differ."""
    means = f"a step has about {per_step:,.0f} tokens, see data.batch_size"
    if steps[0] < _LEAST_STEPS:
        raise SettingError(
            f"--tokens must be at least {_LEAST_STEPS} steps, and {means}; got {tokens[0]:,}."
        )
    for nth in range(1, len(steps)):
        if steps[nth] <= 1.02 * steps[nth - 1]:
            raise SettingError(
                f"--tokens must be further apart, and {means}; got {tokens[nth - 1]:,} and "
                f"{tokens[nth]:,}."
            )


def _for_compare(options: Options) -> CompareOptions:
    """The same as compare would be asked it."""
    return CompareOptions(
        rows=options.rows,
        configs=options.configs,
        mixers=[],
        baseline=None,
        match="tokens",
        tokens=options.tokens[-1],
        seconds=None,
        lrs=[],
        lr_extensions=0,
        seeds=options.seeds,
        test_on=[],
        folder=options.folder,
        processes=1,
        processes_per_gpu=1,
        is_dry=options.is_dry,
        json=None,
        fit=options.fit,
    )
