"""A grid of learning rates is extended until the best lies inside, and then reported on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tessera.commands.arguments import parted
from tessera.commands.compare.options import OF_FIT, options_of
from tessera.commands.compare.options import parser as new_parser
from tessera.commands.compare.plan import GRID, REPORT, Plan, PlannedRow
from tessera.commands.compare.sweep import Sweep

MODEL = {"warmup_steps": 300, "decay_steps": 50, "lr": 1.0}


def sweep_of(*arguments: str) -> Sweep:
    own, fit = parted(["a.yaml", "--tokens", "100", *arguments], OF_FIT)
    options, problems = options_of(new_parser().parse_args(own), fit)
    assert options is not None, problems
    row = PlannedRow("a", MODEL, {}, {}, options.lrs, 40, "code")
    return Sweep(Plan([row], "a", {"seed": 5}, {"a": 2.5}, 10_000, None, options), row)


def run_through(sweep: Sweep, excess: Callable[[float], float | None]) -> list[tuple[str, float]]:
    """Every run that the sweep asks for, in the order in which it does."""
    seen: list[tuple[str, float]] = []
    while new := [run for run in sweep.runs() if (run.phase, run.lr) not in seen]:
        for run in new:
            seen.append((run.phase, run.lr))
            value = excess(run.lr)
            sweep.note(run, value, "" if value else "it diverged")
    return seen


def test_the_best_inside_the_grid_is_taken() -> None:
    sweep = sweep_of("--lrs", "4,1,2", "--seeds", "7,8")
    assert sweep.num_to_come == 2
    seen = run_through(sweep, lambda lr: abs(lr - 2) + 1)
    assert seen == [(GRID, 1), (GRID, 2), (GRID, 4), (REPORT, 2), (REPORT, 2)]
    assert (sweep.lr, sweep.is_at_edge, sweep.num_to_come) == (2, False, 0)
    reported = [run for run in sweep.runs() if run.phase == REPORT]
    assert [run.seed for run in reported] == [7, 8]
    assert len({run.run_id for run in sweep.runs()}) == 5


def test_a_grid_is_extended_by_its_own_factor_while_the_best_lies_at_its_edge() -> None:
    sweep = sweep_of("--lrs", "1,3", "--lr_extensions", "5", "--seeds", "0")
    assert [lr for _, lr in run_through(sweep, lambda lr: abs(lr - 27) + 1)] == [
        1,
        3,
        9,
        27,
        81,
        27,
    ]
    assert sweep.is_at_edge is False
    down = sweep_of("--lrs", "1,2,3", "--lr_extensions", "5", "--seeds", "0")
    assert [lr for _, lr in run_through(down, lambda lr: lr + 1)][3:] == [
        *(0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125),
    ]
    assert down.is_at_edge is True  # nothing was left to try


@pytest.mark.parametrize(("best", "lr"), [(1, 2.0), (100, 4.0)])
def test_rates_that_diverge_are_worse_than_all_others(best: float, lr: float) -> None:
    def excess(rate: float) -> float | None:
        return None if rate < 2 or rate > 4 else abs(rate - best) + 1

    sweep = sweep_of("--lrs", "1,2,4,8", "--seeds", "0")
    run_through(sweep, excess)
    assert (sweep.lr, sweep.is_at_edge, sweep.failure) == (lr, False, "")


def test_a_row_that_no_rate_trains_says_why() -> None:
    sweep = sweep_of("--lrs", "1,2", "--seeds", "0,1")
    run_through(sweep, lambda lr: None)
    assert sweep.lr is None and sweep.num_to_come == 0
    assert sweep.failure == "no learning rate trains it: it diverged"


def test_one_rate_is_taken_as_it_is() -> None:
    sweep = sweep_of("--lrs", "2", "--seeds", "0,1")
    assert [run.phase for run in sweep.runs()] == [REPORT, REPORT]
    assert (sweep.lr, sweep.is_at_edge) == (2.0, None)


def test_a_run_is_told_by_all_that_it_follows_from() -> None:
    sweep = sweep_of("--lrs", "1,2", "--seeds", "7")
    first, second = sweep.runs()
    assert (first.lr, first.seed, first.settings["data"]["seed"]) == (1, 10_000, 10_005)
    assert first.settings["held_out_seed"] == 5
    assert not first.settings["is_tested"]
    # The end of a schedule is the end of the run, and its beginning a tenth of it.
    assert first.settings["model"] == {"warmup_steps": 4, "decay_steps": None, "lr": 1.0}
    assert first.run_id != second.run_id
    again = sweep_of("--lrs", "1,2", "--seeds", "7", "--processes", "3")
    assert [run.run_id for run in again.runs()] == [first.run_id, second.run_id]
    told = sweep_of("--lrs", "1,2", "--model.warmup_steps", "300", "--model.decay_steps=50")
    assert told.runs()[0].settings["model"]["warmup_steps"] == 300
    assert told.runs()[0].settings["model"]["decay_steps"] == 50
